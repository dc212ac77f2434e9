"""Adding a variant to its bundle."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from typing import Any

from m2a.calibration.variants import Variant
from m2a.errors import BundleError
from m2a.files import atomic_write, check_writable
from m2a.graphs.manifest import graph_entries, graph_path
from m2a.runtime.bundle import GRAPHS, MANIFEST, Bundle, open_bundle


def add_variant(bundle: Bundle, variant: Variant) -> Bundle:
    """Writes a variant into its bundle.

    The manifest names the variant only while its files are whole: an older one is taken out first,
    and the new one comes in last. A write that fails leaves a bundle without the variant.

    Args:
        bundle: the one from which the variant was made.
        variant: judged.

    Returns:
        The bundle, read again.

    Raises:
        BundleError: the bundle is the one inside the package, which is not changed; its graphs are
            no longer those the variant was made from; a link leads out of it; or the files cannot
            be written.
    """
    if bundle.packaged:
        raise BundleError(
            "the bundle inside the package is not changed; export one of your own, or copy it"
        )
    precision = variant.precision
    content = _unchanged_manifest(bundle)
    sections = {
        "graphs": graph_entries(precision, variant.graphs),
        "limits": variant.limits,
        "variants": variant.to_json(),
    }
    files = {graph_path(name, precision): graph for name, graph in variant.graphs.items()}
    home = bundle.path.resolve()
    for file in [*files, MANIFEST]:
        if home not in (bundle.path / file).resolve().parents:
            raise BundleError(f"{bundle.path / file} is a link that leaves the bundle; remove it")
    try:
        if precision in content["graphs"]:
            for section in sections:
                _section(content, section).pop(precision, None)
            _write_manifest(bundle, content)
        for file, graph in files.items():
            path = bundle.path / file
            path.parent.mkdir(exist_ok=True)
            atomic_write(path, graph, overwrite=True)
        content = _unchanged_manifest(bundle)  # read anew: another variant may have come in
        for section, values in sections.items():
            _section(content, section)[precision] = values
        _write_manifest(bundle, content)
    except OSError as error:
        raise BundleError(
            f"cannot write the {precision} graphs into {bundle.path}: {error.strerror}"
        ) from error
    return open_bundle(bundle.path, origin=bundle.origin)


def check_addable(bundle: Bundle, precision: str) -> None:
    """Refuses a bundle to which no variant can be added, before any work is done.

    Raises:
        BundleError: no file can be created in it, or something is in the way.
    """
    for path in [bundle.path / graph_path(name, precision) for name in GRAPHS]:
        in_the_way = path if path.is_dir() else path.parent
        if path.is_dir() or (os.path.lexists(path.parent) and not path.parent.is_dir()):
            raise BundleError(
                f"{in_the_way} is in the way of the {precision} graphs; move it elsewhere"
            )
    try:
        for path in (bundle.path / MANIFEST, bundle.path / graph_path(GRAPHS[0], precision)):
            check_writable(path)
    except OSError as error:
        raise BundleError(
            f"cannot write the {precision} graphs into {bundle.path}: {error.strerror}"
        ) from error


def _unchanged_manifest(bundle: Bundle) -> dict[str, Any]:
    """The manifest as it is now, if it still names the graphs that the bundle was opened with."""
    now = open_bundle(bundle.path, origin=bundle.origin)
    if now.graphs["fp32"] != bundle.graphs["fp32"]:
        raise BundleError(
            f"the bundle {bundle.path} was exported again meanwhile; make its variant again"
        )
    manifest: dict[str, Any] = json.loads(json.dumps(now.manifest))
    return manifest


def _section(content: dict[str, Any], name: str) -> dict[str, Any]:
    """A section of the manifest, made if it is missing; one without variants is not checked."""
    found = content.get(name)
    if not isinstance(found, dict):
        content[name] = found = {}
    return found


def _write_manifest(bundle: Bundle, content: Mapping[str, Any]) -> None:
    text = json.dumps(content, indent=2) + "\n"
    atomic_write(bundle.path / MANIFEST, text.encode(), overwrite=True)
