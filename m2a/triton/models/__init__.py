"""What runs in the server, in the process of Triton's Python backend."""
