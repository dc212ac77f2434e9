"""The bundle that the commands would take, every file of it read."""

from __future__ import annotations

from pathlib import Path

from m2a.diagnosis.finding import Finding, broken, good
from m2a.errors import BundleError

TOPIC = "bundle"


def bundle_finding(given: Path | None) -> Finding:
    """Searches for the bundle as `m2a run` does, and checks every file's hash.

    Args:
        given: the caller's choice, or None to search.
    """
    from m2a.runtime.bundle import (
        DEFAULT_DIRECTORY,
        ENVIRONMENT_VARIABLE,
        GRAPHS,
        PACKAGED,
        find_bundle,
    )

    try:
        bundle = find_bundle(given, working_directory=True)
        for precision in bundle.precisions:
            for name in GRAPHS:
                bundle.graph(name, precision=precision)
        bundle.reference()
    except BundleError as error:
        text = str(error)
        if str(PACKAGED) in text:
            remedy = "pip install --force-reinstall m2a"
        elif given is None:
            remedy = (
                f"unset {ENVIRONMENT_VARIABLE}, or remove ./{DEFAULT_DIRECTORY}, for the packaged "
                "model; m2a export --ckpt model.pth makes a new one"
            )
        else:
            remedy = "m2a export --ckpt model.pth"
        return broken(TOPIC, text, remedy)
    model = bundle.manifest.get("model")
    name = model.get("name", "unnamed") if isinstance(model, dict) else "unnamed"
    return good(
        TOPIC,
        f"{bundle.path} ({bundle.origin}): M2AENet {name}, {', '.join(bundle.precisions)}; "
        "all files have the hashes of the manifest",
    )
