"""The versions of a bug report."""

from __future__ import annotations

from m2a.diagnosis.versions import installed_versions


def test_the_installed_ones_are_told():
    import numpy
    import onnxruntime
    import pyvips

    versions = installed_versions()
    assert versions["numpy"] == numpy.__version__
    assert versions["onnxruntime"] == onnxruntime.__version__
    assert versions["libvips"] == ".".join(str(pyvips.version(part)) for part in range(3))


def test_what_is_needed_is_listed_even_where_it_is_not_installed():
    versions = installed_versions(find=lambda name: None)
    assert versions["numpy"] == versions["onnxruntime"] == "not installed"
    assert versions["libvips"] == "the system's"
    assert "torch" not in versions


def test_both_of_a_double_installation_are_told(plant):
    plant("onnxruntime", "1.20.1")
    plant("onnxruntime-gpu", "1.19.0")
    versions = installed_versions()
    assert (versions["onnxruntime"], versions["onnxruntime-gpu"]) == ("1.20.1", "1.19.0")
