from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("tritonclient.grpc")

from triton_repositories import config_of, files_of, written

from m2a import __version__
from m2a.errors import UsageError
from m2a.runtime.bundle import open_bundle
from m2a.triton.place import CONTENTS, check_replaceable


@pytest.fixture(scope="module")
def bundle(tiny_bundle):
    return open_bundle(tiny_bundle)


@pytest.mark.parametrize("model", ["m2a", "m2a_file"])
def test_a_stitching_model_carries_all_code_that_it_needs(bundle, tmp_path, model):
    """It is imported as the server does, with nothing but NumPy, and no other m2a."""
    repository = written(bundle, tmp_path / "repository")
    script = """
import sys, types
class OnlyNumpy:
    def find_spec(self, name, path=None, target=None):
        allowed = {"m2a", "numpy", "model", *sys.stdlib_module_names}
        if name.split(".")[0] not in allowed:
            raise ModuleNotFoundError(name, name=name)
sys.meta_path.insert(0, OnlyNumpy())
sys.modules["triton_python_backend_utils"] = types.ModuleType("triton_python_backend_utils")
sys.path.append(sys.argv[1])
import model
own = [m for name, m in sys.modules.items() if name.split(".")[0] == "m2a"]
assert all(m.__file__.startswith(sys.argv[1]) for m in own), own
assert hasattr(model.TritonPythonModel, "execute")
"""
    command = [sys.executable, "-c", script, str(repository / model / "7")]
    written(bundle, repository, version=7)
    subprocess.run(command, check=True)


def test_the_code_comes_with_its_licence(bundle):
    """From the package, which holds a copy: an installed one has no folder around it."""
    licence = (Path(__file__).parents[3] / "LICENSE").read_bytes()
    files = files_of(bundle, version=7)
    assert files["m2a/7/m2a/LICENSE"] == files["m2a_file/7/m2a/LICENSE"] == licence


def test_the_list_of_contents_has_the_hash_of_every_file(bundle, tmp_path):
    repository = written(bundle, tmp_path / "repository")
    content = json.loads((repository / CONTENTS).read_bytes())
    found = {
        path.relative_to(repository).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in repository.rglob("*")
        if path.is_file() and path.name != CONTENTS
    }
    assert content["files"] == found


def test_contents_and_configurations_tell_the_bundle(bundle):
    files = files_of(bundle)
    manifest = hashlib.sha256((bundle.path / "manifest.json").read_bytes()).hexdigest()
    origin = {"bundle_sha256": manifest, "m2a_version": __version__, "precision": "fp32"}
    content = json.loads(files[CONTENTS])
    for model in ("m2a", "m2a_file", "m2a_mask", "m2a_restore"):
        parameters = config_of(files, model).parameters
        assert {name: parameters[name].string_value for name in origin} == origin
    assert origin.items() <= content.items()


def test_graphs_are_carried_by_who_computes_them(bundle):
    graph = bundle.graph("restore", precision="fp32")
    served = files_of(bundle, version=5)
    assert served["m2a_restore/5/model.onnx"] == graph
    assert "m2a/5/bundle/fp32/restore.onnx" not in served
    in_process = files_of(bundle, backend="python")
    assert in_process["m2a/1/bundle/fp32/restore.onnx"] == graph
    assert in_process["m2a_file/1/bundle/fp32/restore.onnx"] == graph


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"backend": "openvino"}, "unknown backend 'openvino'; known are onnx, tensorrt, python"),
        ({"precision": "int8"}, "has no int8 graphs"),
        ({"precision": "int8", "backend": "python"}, "has no int8 graphs"),
        ({"threshold": 0.0}, r"must lie in \(0, 1\]"),
        ({"dilate": -1}, "must not be negative"),
        ({"ensemble": 3}, "must be 1, 2, 4 or 8"),
        ({"max_memory": 1000}, "needs at least"),
    ],
)
def test_what_no_server_could_load_is_not_written(bundle, changes, message):
    with pytest.raises(UsageError, match=message):
        files_of(bundle, **changes)


def test_a_new_place_and_an_empty_folder_are_free(tmp_path):
    check_replaceable(tmp_path / "new", overwrite=False)
    check_replaceable(tmp_path, overwrite=False)


def test_an_older_repository_is_replaced_if_that_is_said(bundle, tmp_path):
    repository = written(bundle, tmp_path / "repository")
    (repository / "m2a" / "1" / "__pycache__").mkdir()
    (repository / "m2a" / "1" / "__pycache__" / "model.cpython-311.pyc").write_bytes(b"compiled")
    with pytest.raises(UsageError, match="--overwrite"):
        check_replaceable(repository, overwrite=False)
    check_replaceable(repository, overwrite=True)


@pytest.mark.parametrize("foreign", ["another/config.pbtxt", "m2a/2/model.py"])
def test_what_others_put_there_is_not_lost(bundle, tmp_path, foreign):
    repository = written(bundle, tmp_path / "repository")
    place = repository / foreign
    place.parent.mkdir(parents=True)
    place.write_text("theirs")
    with pytest.raises(UsageError, match=f"did not write.*\\({foreign}\\)"):
        check_replaceable(repository, overwrite=True)


@pytest.mark.parametrize("folder", ["__pycache__", "repositories"])
@pytest.mark.parametrize("foreign", ["notes.txt", "m2a/1/__pycache__/notes.txt", "m2a/1/x.pyc"])
def test_compiled_python_alone_is_the_servers(bundle, tmp_path, folder, foreign):
    """Wherever the repository lies."""
    repository = tmp_path / folder / "repository"
    repository.parent.mkdir()
    written(bundle, repository)
    (repository / foreign).parent.mkdir(exist_ok=True)
    (repository / foreign).write_text("theirs")
    with pytest.raises(UsageError, match=f"\\({foreign}\\)"):
        check_replaceable(repository, overwrite=True)


@pytest.mark.parametrize("place", ["another", "m2a/1/m2a"])
def test_a_link_to_a_folder_is_not_ours(bundle, tmp_path, place):
    repository = written(bundle, tmp_path / "repository")
    link = repository / place
    if link.exists():
        link.rename(tmp_path / "elsewhere")
    else:
        (tmp_path / "elsewhere").mkdir()
    link.symlink_to(tmp_path / "elsewhere", target_is_directory=True)
    with pytest.raises(UsageError, match=f"\\({place}\\)"):
        check_replaceable(repository, overwrite=True)


def test_what_an_operator_edited_is_not_lost(bundle, tmp_path):
    repository = written(bundle, tmp_path / "repository")
    config = repository / "m2a_file" / "config.pbtxt"
    config.write_text(config.read_text() + "# ours\n")
    with pytest.raises(UsageError, match=r"was changed since \(m2a_file/config.pbtxt\)"):
        check_replaceable(repository, overwrite=True)
    config.rename(tmp_path / "config.pbtxt")
    check_replaceable(repository, overwrite=True)


@pytest.mark.parametrize("content", ["not json", "[]", '{"files": 3}', None])
def test_a_folder_that_is_no_repository_is_kept(tmp_path, content):
    if content is not None:
        (tmp_path / CONTENTS).write_text(content)
    (tmp_path / "thesis.tex").write_text("theirs")
    with pytest.raises(UsageError, match="did not write"):
        check_replaceable(tmp_path, overwrite=True)


def test_a_file_is_not_replaced_and_a_parent_must_exist(tmp_path):
    (tmp_path / "file").write_text("theirs")
    with pytest.raises(UsageError, match="did not write"):
        check_replaceable(tmp_path / "file", overwrite=True)
    with pytest.raises(UsageError, match="does not exist"):
        check_replaceable(tmp_path / "absent" / "new", overwrite=True)
