"""TensorRT engines: built, described, and judged before they are loaded."""

from m2a.engines.build import Order, build_engines, describe_precision, engines_folder
from m2a.engines.sidecar import Machine, Sidecar, read_engine, read_sidecar, reasons_against
from m2a.engines.tensorrt import TensorRT, build_plan, find_tensorrt

__all__ = [
    "Machine",
    "Order",
    "Sidecar",
    "TensorRT",
    "build_engines",
    "build_plan",
    "describe_precision",
    "engines_folder",
    "find_tensorrt",
    "read_engine",
    "read_sidecar",
    "reasons_against",
]
