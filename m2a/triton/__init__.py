"""A repository for NVIDIA's Triton server: what writes it, and in `models` what runs in the server.

`models` and `settings` are copied into the repository, with the layers below them, so that a server
needs no installation of m2a. They import nothing that a Triton container lacks: NumPy and the
server's own `triton_python_backend_utils`; libvips where pictures come as files.
"""
