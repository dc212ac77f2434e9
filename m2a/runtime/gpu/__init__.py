"""The whole pipeline on a GPU: what a backend such as `tensorrt` is made of, but for the driver.

`device` is all that is asked of a GPU and of an engine; `kernels` launches `kernels.cu`; `buffers`
keeps memory from picture to picture; `sites` builds the tables; `pipeline` strings them together,
and `deblurrer` is what the caller sees. Nothing here imports a driver: `m2a.engines` brings
pycuda's and TensorRT's, the tests one that runs the same kernels on the CPU.
"""
