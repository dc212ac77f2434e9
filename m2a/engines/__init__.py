"""TensorRT engines: built, described, and judged before they are loaded.

`m2a.engines.sidecar` and `m2a.engines.machine` tell of engines and machines, and need no more than
running a bundle does; `m2a.engines.build` needs `onnx`, `filelock` and TensorRT.
"""
