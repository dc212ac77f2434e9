"""A model of Triton's Python backend that computes the `model.onnx` beside it, by ONNX Runtime.

It notes each request in the file `asked`, a byte each, before it answers: the server's own
statistics count after it has answered.
"""

from pathlib import Path

import onnxruntime
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    def initialize(self, args):
        folder = Path(args["model_repository"], args["model_version"])
        self.asked = folder / "asked"
        self.session = onnxruntime.InferenceSession(
            folder / "model.onnx", providers=["CPUExecutionProvider"]
        )

    def execute(self, requests):
        return [self.respond(request) for request in requests]

    def respond(self, request):
        with self.asked.open("ab") as stream:
            stream.write(b".")
        feeds = {tensor.name(): tensor.as_numpy() for tensor in request.inputs()}
        names = list(request.requested_output_names())
        results = self.session.run(names, feeds)
        return pb_utils.InferenceResponse(list(map(pb_utils.Tensor, names, results)))
