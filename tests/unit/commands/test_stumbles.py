"""What a newcomer does wrong, and what `m2a run` and `m2a report` then say."""

from __future__ import annotations

import errno
import json
from pathlib import Path
from types import SimpleNamespace

import pytest
from click.testing import CliRunner
from command_pictures import draw, lines

from m2a.cli import main
from m2a.commands.opening import tell_fallback


def test_a_fallback_is_told_with_its_reason(capsys):
    tell_fallback(SimpleNamespace(backend="ort-cpu", fallback_reason=None))
    assert capsys.readouterr().err == ""
    tell_fallback(SimpleNamespace(backend="ort-cpu", fallback_reason="there is no GPU"))
    assert capsys.readouterr().err == "m2a: ort-cpu computes instead: there is no GPU\n"


class TestMany:
    def test_what_is_passed_over_is_said_once(self, invoke):
        draw("photos/a.png")
        draw("photos/deep/b.png")
        Path("photos/.hidden").mkdir()
        for name in ("notes.txt", "clip.mp4", "deep/more.txt", ".DS_Store"):
            Path("photos", name).write_text("")
        *_, summary = lines(invoke("run", "photos", "-o", "out"))
        assert summary.endswith(
            "; 1 folder not looked into (--recursive), 2 files of other kinds passed over"
        )
        *_, first, second, summary = lines(
            invoke("run", "photos", "-o", "out", "-v", "--overwrite")
        )
        assert first == "photos/clip.mp4: passed over, no picture by its name"
        assert second.startswith("photos/notes.txt: ")
        *_, summary = lines(invoke("run", "photos", "-o", "photos/out", "--recursive"))
        assert summary.endswith("; 3 files of other kinds passed over")
        *_, summary = lines(invoke("run", "photos/*.png", "-o", "more"))
        assert "passed over" not in summary

    def test_a_page_takes_folders_and_patterns(self, invoke):
        draw("photos/a.png")
        draw("photos/deep/b.png")
        first, *_ = lines(invoke("report", "photos", "-o", "one.html", "--mask-in", "full"))
        assert first.startswith("one.html: 1 photo, ")
        assert first.endswith("; 1 folder not looked into (--recursive)")
        options = ("--recursive", "--mask-in", "full")
        first, *_ = lines(invoke("report", "photos", "-o", "two.html", *options))
        assert first.startswith("two.html: 2 photos, ")
        first, *_ = lines(invoke("report", "photos/*/b.png", "-o", "three.html", *options))
        assert first.startswith("three.html: 1 photo, ")

    def test_verbose_says_a_line_of_each_and_the_summary_the_total(self, invoke):
        draw("photos/a.png")
        draw("photos/b.png", size=(64, 80))
        quiet = lines(invoke("run", "photos", "-o", "out", "--mask-in", "full"))
        assert len(quiet) == 1
        first, second, summary = lines(
            invoke("run", "photos", "-o", "v", "-v", "--mask-in", "full")
        )
        assert first.startswith(f"{Path('v/a.png')}: 100.0% of the pixels restored in ")
        assert second.startswith(f"{Path('v/b.png')}: ")
        assert summary.startswith("2 done, 0 skipped, 0 failed in ")
        assert summary.endswith("s, 100.0% of the pixels restored")
        *_, none = lines(invoke("run", "photos", "-o", "w", "--threshold", 1))
        assert none.endswith("s, 0.0% of the pixels restored, no motion blur found in 2")

    def test_one_file_into_a_folder_is_named(self, invoke):
        draw("a.png")
        (line,) = lines(invoke("run", "a.png", "-o", "out/", "--mask-in", "full"))
        assert line.startswith(f"{Path('out/a.png')}: 100.0% of the pixels restored")


def test_the_seconds_include_reading_and_writing(invoke):
    draw("a.png")
    for output in ("out.png", "out/"):
        result = invoke("run", "a.png", "-o", output, "--mask-in", "full", "--json")
        seconds = json.loads(result.stdout)["seconds"]
        assert next(iter(seconds)) == "decode"
        assert list(seconds)[-1] == "encode"
        assert all(value > 0 for value in seconds.values())


def test_an_absent_precision_names_the_command_that_makes_it(invoke, tiny_checkpoint):
    draw("a.png")
    name = tiny_checkpoint.name
    for command, output in (("run", "out.png"), ("report", "out.html")):
        (line,) = lines(invoke(command, "a.png", "-o", output, "--precision", "fp16"))
        assert f"`m2a export --ckpt {name} --fp16 --threshold 0.5 --dilate 4` makes them" in line
        help_ = " ".join(invoke(command, "--help").stdout.split())
        assert "auto|fp32|fp16|int8 " in help_
        assert "where `m2a export --ckpt CHECKPOINT --fp16` made them" in help_
        assert "where `m2a calibrate PHOTOS` made them" in help_


def test_a_checkpoint_is_no_bundle(invoke):
    draw("a.png")
    Path("model.pth").write_bytes(b"")
    (line,) = lines(invoke("run", "a.png", "-o", "out.png", "--bundle", "model.pth"))
    assert "model.pth is a checkpoint, not a bundle: `m2a export --ckpt model.pth`" in line


def test_a_bundle_is_no_photo_to_verify_on(invoke, tiny_bundle):
    refused = invoke("verify", tiny_bundle)
    assert refused.exit_code == 2
    assert f"did you mean `m2a verify --bundle {tiny_bundle}`?" in refused.stderr


class TestAFolderThatCannotBeWritten:
    """Told before any work is done, by the name that was given."""

    @pytest.fixture
    def in_vain(self, tmp_path, monkeypatch):
        """Runs a command where no file can be created in the folder `ro`."""
        opened = Path.open

        def refuse(path, mode="r", **options):
            if "ro" in path.parts and "r" not in mode:
                raise PermissionError(errno.EACCES, "Permission denied", str(path))
            return opened(path, mode, **options)

        monkeypatch.setattr(Path, "open", refuse)
        monkeypatch.setenv("M2A_BUNDLE", "missing")  # told first, if it were looked for
        monkeypatch.chdir(tmp_path)

        def in_vain(*words):
            Path("ro").mkdir()
            result = CliRunner().invoke(main, list(map(str, words)))
            assert result.exit_code == 1, result.output
            assert list(Path("ro").iterdir()) == []
            line = result.stderr.splitlines()[-1]
            assert line.endswith(
                f"no file can be created in {Path('ro').absolute()}: Permission denied"
            )
            return line

        return in_vain

    @pytest.mark.parametrize(
        ("output", "named"),
        [("ro/x.png", "ro/x.png"), ("ro/", "ro"), ("ro/out/", "ro/out"), ("ro/a/b/", "ro/a/b")],
    )
    def test_run(self, in_vain, photo, output, named):
        assert in_vain("run", photo, "-o", output).startswith(f"m2a: {named}: cannot be written")

    def test_report(self, in_vain, photo):
        assert in_vain("report", photo, "-o", "ro/x.html").startswith("m2a: ro/x.html: ")

    def test_triton(self, in_vain):
        pytest.importorskip("google.protobuf")
        assert in_vain("triton", "-o", "ro/models").startswith("m2a: ro/models: ")

    def test_export(self, in_vain):
        pytest.importorskip("torch")
        line = in_vain("export", "--ckpt", "missing.pth", "-o", "ro/bundle")
        assert line.startswith("m2a: cannot write the bundle ")
