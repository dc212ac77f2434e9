"""One arena for all graphs that a process runs on the CPU.

A session's own arena keeps what its largest call took, and with three graphs open a process would
hold that three times, though one graph runs after another.
"""

from __future__ import annotations

import threading
from typing import Any

__all__ = ["share_arena"]

_registering = threading.Lock()
_registered = False

_DEFAULT = -1
"""Of an arena's settings: ONNX Runtime's own choice."""


def share_arena(runtime: Any, settings: Any) -> None:  # noqa: ANN401 - the package has no types
    """Lets a session take its memory from the arena that is there for all.

    The arena belongs to ONNX Runtime's environment, of which a process has one; sessions of others
    take no notice of it unless they ask for it too.

    Args:
        runtime: the module `onnxruntime`.
        settings: of the session, which is not open yet.
    """
    global _registered
    with _registering:
        if not _registered:
            memory = runtime.OrtMemoryInfo(
                "Cpu", runtime.OrtAllocatorType.ORT_ARENA_ALLOCATOR, 0, runtime.OrtMemType.DEFAULT
            )
            arena = runtime.OrtArenaCfg(0, _DEFAULT, _DEFAULT, _DEFAULT)
            runtime.create_and_register_allocator(memory, arena)
            _registered = True
    settings.add_session_config_entry("session.use_env_allocators", "1")
