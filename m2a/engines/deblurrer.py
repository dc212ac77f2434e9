"""The backend `tensorrt`: a bundle's engines and the CUDA kernels, on the GPU they were built for.

`m2a.runtime` names this module and does not import it: see `m2a.runtime.backends.PIPELINES`.
"""

from __future__ import annotations

from collections.abc import Sequence

from m2a.engines.execution import EngineExecution
from m2a.engines.machine import Machine, this_machine
from m2a.engines.pycuda_device import PycudaDevice, import_pycuda
from m2a.engines.selection import MissingEnginesError, choose_engines
from m2a.engines.tensorrt import find_tensorrt
from m2a.errors import BackendError, EngineError, MissingDependencyError
from m2a.runtime.bundle import GRAPHS, Bundle
from m2a.runtime.gpu.deblurrer import GpuDeblurrer
from m2a.runtime.precision import ChosenPrecision

BACKEND = "tensorrt"


def open_on_gpu(
    bundle: Bundle,
    *,
    precision: str,
    threshold: float,
    dilate: int,
    ensemble: int = 1,
    max_memory: int,
    machine: Machine | None = None,
) -> GpuDeblurrer:
    """Opens a bundle on the GPU that its engines were built for.

    What can be known without touching the GPU is asked first; nothing falls back to anything.

    Args:
        bundle: the bundle.
        precision: of the engines; the bundle need not hold the graphs that they were built from.
        threshold: a pixel is active where its probability is at least this.
        dilate: radius in pixels by which the mask is then dilated.
        ensemble: turns of a picture over which the mean is taken.
        max_memory: bytes that single stages take at a time, about; the one call takes what the
            picture needs.
        machine: this one, which is asked if it is not given.

    Raises:
        BackendError: there is no GPU, or it cannot be used.
        MissingDependencyError: pycuda or TensorRT is not installed.
        EngineError: there are no engines that would run here.
    """
    machine = this_machine() if machine is None else machine
    if not machine.gpus:
        raise BackendError(
            f"the backend {BACKEND!r} needs an NVIDIA GPU: {machine.without_gpu}; "
            "use --backend ort-cpu"
        )
    import_pycuda()
    if not machine.tensorrt:
        raise MissingDependencyError(
            "tensorrt", extra="tensorrt", purpose=f"The backend {BACKEND!r}"
        )
    chosen = choose_engines(bundle, precision=precision, machine=machine)
    tensorrt = find_tensorrt(chosen.sidecar.flavour)
    capabilities = [capability for capability, _ in machine.gpus]
    device = PycudaDevice(capabilities.index(chosen.sidecar.compute_capability))
    with device.active():
        engines = {
            name: EngineExecution(
                tensorrt,
                name,
                chosen.contents[name],
                chosen.sidecar.graphs[name],
                stream=device.stream,
            )
            for name in GRAPHS
        }
    return GpuDeblurrer(
        bundle,
        device=device,
        mask=engines["mask"],
        restore=engines["restore"],
        backend=BACKEND,
        precision=precision,
        threshold=threshold,
        dilate=dilate,
        ensemble=ensemble,
        max_memory=max_memory,
    )


def choose_precision(
    bundle: Bundle, verified: Sequence[str], *, machine: Machine | None = None
) -> ChosenPrecision:
    """Chooses the best precision whose engines would run here.

    Args:
        bundle: whose engines.
        verified: precisions, the best first.
        machine: this one, which is asked if it is not given.

    Returns:
        The first of them with such engines; the last where there are none, so that opening it says
        why. The reason tells of better ones whose engines are there and will not run, and of those
        that nothing can be read of, which may be better.
    """
    machine = this_machine() if machine is None else machine
    passed_over: list[str] = []
    for precision in verified:
        try:
            choose_engines(bundle, precision=precision, machine=machine)
        except MissingEnginesError as error:
            told = "; ".join(passed_over)
            passed_over += [fault for fault in error.unreadable if fault not in told]
            continue
        except EngineError as error:
            passed_over.append(str(error))
            continue
        best = f"{precision}, the best verified engines that run here"
        return ChosenPrecision(precision=precision, reason="; ".join([best, *passed_over]))
    return ChosenPrecision(precision=verified[-1], reason="no verified engines that run here")
