"""What a newcomer does wrong, and what `m2a run` and `m2a report` then say."""

from __future__ import annotations

import errno
import json
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest
from click.testing import CliRunner
from command_pictures import draw, lines
from PIL import Image

from m2a.cli import main
from m2a.commands.opening import tell_fallback
from m2a.commands.run_report import nothing_found


class TestWords:
    """Read by the parser alone: no bundle is needed."""

    @pytest.fixture
    def refused(self, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        draw("in.png")

        def refused(*words):
            result = CliRunner().invoke(main, words)
            assert result.exit_code == 2, result.output
            assert result.stdout == ""
            return result.stderr.splitlines()[-1]

        return refused

    @pytest.mark.parametrize(
        ("words", "meant"),
        [
            (("-o", "out.png", "run", "in.png"), "m2a run -o out.png in.png"),
            (("-o", "out.png", "in.png"), "m2a run -o out.png in.png"),
            (("in.png", "-o", "out.png"), "m2a run in.png -o out.png"),
            (("missing.JPG", "-o", "out.png"), "m2a run missing.JPG -o out.png"),
            (("a b.jpg",), "m2a run 'a b.jpg'"),
            (("rum", "in.png", "-o", "out.png"), "m2a run in.png -o out.png"),
            (("help",), "m2a --help"),
            (("help", "run"), "m2a run --help"),
            (("version",), "m2a --version"),
            (("Report", "in.png"), "m2a report in.png"),
            (("run", "in.png"), "m2a run in.png -o in-sharp.png"),
            (("run", "in.png", "out.png"), "m2a run in.png -o out.png"),
            (("run", "in.png", "in.png"), "m2a run in.png in.png -o sharp/"),
            (("run", "."), "m2a run . -o sharp/"),
            (("report", "in.png"), "m2a report in.png -o report.html"),
            (("deblur", "in.png", "-o", "out.png"), "m2a run in.png -o out.png"),
            (("export", "model.pth", "--fp16"), "m2a export --ckpt model.pth --fp16"),
            (("export",), "m2a export --ckpt model.pth"),
            (("triton",), "m2a triton -o model_repository"),
            (
                ("train",),
                "m2a train recipes/small-restorer.toml --photos photos -o runs/small",
            ),
        ],
    )
    def test_what_may_have_been_meant_is_told(self, refused, words, meant):
        assert f"`{meant}`" in refused(*words)

    def test_a_mistyped_option_is_told(self, refused):
        assert "--version" in refused("--verison")
        assert "--threshold" in refused("run", "in.png", "-o", "out.png", "--treshold", "0.3")

    def test_an_option_of_another_name_is_told(self, refused):
        line = refused("run", "in.png", "-o", "out.png", "--force")
        assert "Did you mean" in line
        assert "--overwrite" in line
        assert "--overwrite" not in refused("export", "--ckpt", "model.pth", "--force")

    def test_nothing_is_made_up(self, refused):
        assert refused("zzz") == (
            "Error: Found 'zzz', expected a command; `m2a --help` lists the commands."
        )
        assert refused("--zzz").startswith("Error: No such option")
        assert "Name what to read" in refused("run")

    @pytest.mark.parametrize("command", ["run", "report"])
    @pytest.mark.parametrize("address", ["http://x.example/a.jpg", "file:///a.jpg"])
    def test_an_address_is_no_file(self, refused, command, address):
        line = refused(command, address, "-o", "out.html")
        assert line.startswith(f"m2a: {address}: found an address")

    def test_a_number_of_bytes_that_was_meant_otherwise(self, refused):
        line = refused("run", "in.png", "-o", "out.png", "--max-memory", "2")
        assert "found 2, which means bytes, expected e.g. 2GiB" in line

    @pytest.mark.parametrize("name", ["masks/", ".", "mask.jpg"])
    def test_a_mask_is_a_png(self, refused, name):
        line = refused("run", "in.png", "-o", "out.png", "--mask-out", name)
        assert line.endswith(", expected .png")

    def test_heic_is_not_written(self, refused):
        assert "HEIC is read, not written" in refused("run", "in.png", "-o", "p.heic")

    def test_a_plot_is_a_png(self, refused):
        assert refused("bench", "--plot", "g.svg") == (
            "m2a: --plot g.svg: found the suffix '.svg', expected .png"
        )

    @pytest.mark.parametrize("command", ["run", "report"])
    def test_an_option_is_given_once(self, refused, command):
        assert refused(command, "in.png", "-otters.jpg", "-o", "../x3") == (
            "m2a: -o: found twice (tters.jpg, ../x3), expected once; a file whose name begins with "
            "- is given as ./-otters.jpg or after --"
        )
        line = refused(command, "in.png", "-o", "x", "--dilate", "1", "--dilate=2", "--dilate", "3")
        assert line == "m2a: --dilate: found 3 times (1, 2, 3), expected once"

    def test_an_output_may_be_a_file_or_a_folder(self, refused):
        for line in (refused("run", "in.png", "-o", "o"), refused("run", "a.mp4", "-o", "o")):
            assert "o.png" in line
            assert "ends with /, as in o/" in line

    def test_options_are_checked_before_the_bundle_is_looked_for(self, refused):
        run = ("run", "in.png", "-o", "out.png", "--bundle", "nowhere")
        assert "(0, 1]" in refused(*run, "--threshold", "3")
        assert "negative" in refused(*run, "--dilate", "-1")
        assert "known are ort-cpu" in refused(*run, "--backend", "abacus")
        assert "int9" in refused(*run, "--precision", "int9")
        Path("out.png").write_text("precious")
        in_the_way = refused(*run)
        assert "--overwrite" in in_the_way
        assert "overwrite=" not in in_the_way

    def test_files_in_the_way_are_named(self, refused):
        for name in ("a", "b", "c", "d", "e"):
            draw(f"photos/{name}.png")
        shutil.copytree("photos", "out")
        line = refused("run", "photos", "-o", "out")
        names = ", ".join(str(Path(f"out/{name}.png")) for name in "abc")
        assert f"found {names} and 2 more of the files to write already there" in line
        assert "--skip-existing" in line
        assert "--overwrite" in line


class TestNothingFound:
    """No pixel reaches the threshold."""

    def test_it_is_said_with_both_numbers_and_what_to_do(self, invoke):
        draw("a.png")
        result = invoke("run", "a.png", "-o", "out.png", "--threshold", 1, "--json")
        found = json.loads(result.stdout)
        assert found["coverage"] == 0
        assert found["threshold"] == 1
        assert 0 < found["highest_probability"] < 1
        (line,) = lines(invoke("run", "a.png", "-o", "again.png", "--threshold", 1))
        assert line.startswith("again.png: no motion blur found, no pixel was restored")
        assert "below the threshold of 1" in line
        # The threshold that it proposes does restore something.
        proposed = line.split("; --threshold ")[1].split()[0]
        restored = invoke("run", "a.png", "-o", "c.png", "--threshold", proposed, "--json")
        assert json.loads(restored.stdout)["coverage"] > 0

    def test_an_empty_mask_is_another_matter(self, invoke):
        draw("a.png")
        Image.new("L", (40, 32)).save("mask.png")
        (line,) = lines(invoke("run", "a.png", "-o", "out.png", "--mask-in", "mask.png"))
        assert "the mask that was given is empty" in line

    def test_report_says_it_too(self, invoke):
        draw("a.png")
        page, line = lines(invoke("report", "a.png", "-o", "out.html", "--threshold", 1))
        assert " kB" in page
        assert "below the threshold of 1" in line

    def test_a_probability_of_almost_nothing_is_not_told_as_none(self):
        assert "is less than 0.001, below" in nothing_found(0.15, 1e-5)
        assert "; --mask-in restores" in nothing_found(0.15, 1e-5)
        assert "is 0.999, below the threshold of 1; --threshold 0.99 or" in nothing_found(
            1, 0.99999
        )

    @pytest.mark.parametrize("suffix", [".jpg", ".webp"])
    def test_a_lossy_file_is_copied(self, invoke, suffix):
        source = draw(f"photos/a{suffix}", quality=60)
        arguments = ("--threshold", 1)
        (line,) = lines(invoke("run", source, "-o", f"out{suffix}", *arguments))
        assert line.startswith(f"out{suffix}: unchanged, copied; no motion blur found")
        assert Path(f"out{suffix}").read_bytes() == source.read_bytes()
        assert invoke("run", source, "-o", "-", *arguments).stdout_bytes == source.read_bytes()
        many = invoke("run", "photos", "-o", "out", *arguments, "--json")
        assert json.loads(many.stdout)["copied"] is True
        assert Path(f"out/a{suffix}").read_bytes() == source.read_bytes()

    @pytest.mark.parametrize(
        ("target", "options"),
        [
            ("out.jpg", ("--quality", 50)),
            ("out.jpg", ("--strip-metadata",)),
            ("out.png", ()),
        ],
    )
    def test_it_is_not_copied_where_something_else_was_asked_for(self, invoke, target, options):
        source = draw("a.jpg")
        result = invoke("run", source, "-o", target, "--threshold", 1, "--json", *options)
        assert json.loads(result.stdout)["copied"] is False
        assert Path(target).read_bytes() != source.read_bytes()

    def test_nor_where_it_lies_on_its_side(self, invoke):
        exif = Image.Exif()
        exif[0x0112] = 6
        source = draw("a.jpg", exif=exif)
        result = invoke("run", source, "-o", "out.jpg", "--threshold", 1, "--json")
        assert json.loads(result.stdout)["copied"] is False
        with Image.open("out.jpg") as image:
            assert image.size == (32, 40)

    def test_nor_where_pixels_are_restored(self, invoke):
        source = draw("a.jpg")
        result = invoke("run", source, "-o", "out.jpg", "--mask-in", "full", "--json")
        assert json.loads(result.stdout)["copied"] is False
        assert Path("out.jpg").read_bytes() != source.read_bytes()


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


EXIT_CODES = {
    2: {
        "a photo that is not there": ("run", "nowhere.png", "-o", "out.png"),
        "none of several that is there": ("run", "x.png", "y.png", "-o", "out/"),
        "the same into a folder": ("run", "nowhere.png", "-o", "out/"),
        "a pattern without a match": ("run", "nowhere*.png", "-o", "out/"),
        "a folder without a picture": ("run", "empty", "-o", "out/"),
        "a page of a photo that is not there": ("report", "nowhere.png", "-o", "out.html"),
        "a mask that is not there": ("run", "a.png", "-o", "out.png", "--mask-in", "nowhere.png"),
        "a bundle that is not there": ("run", "a.png", "-o", "out.png", "--bundle", "nowhere"),
        "options that are not there": ("run", "a.png", "-o", "out.png", "--config", "no.toml"),
        "an unknown suffix": ("run", "a.png", "-o", "out.gif"),
        "an unknown suffix for many": ("run", "photos", "-o", "out", "--suffix", ".gif"),
        "a page that is none": ("report", "a.png", "-o", "out.png"),
        "a folder that is not there": ("run", "a.png", "-o", "out/deep/out.png"),
        "an output in the way": ("run", "a.png", "-o", "there.png"),
        "outputs in the way": ("run", "photos", "-o", "photos"),
        "a page in the way": ("report", "a.png", "-o", "there.html"),
        "a threshold": ("run", "a.png", "-o", "out.png", "--threshold", "2"),
        "a dilation": ("report", "a.png", "-o", "out.html", "--dilate", "-1"),
        "a quality": ("run", "a.png", "-o", "out.jpg", "--quality", "101"),
        "a backend": ("run", "a.png", "-o", "out.png", "--backend", "abacus"),
        "a precision": ("run", "a.png", "-o", "out.png", "--precision", "int9"),
        "a precision that is not there": ("run", "a.png", "-o", "out.png", "--precision", "fp16"),
        "a size of memory": ("run", "a.png", "-o", "out.png", "--max-memory", "much"),
        "too little memory": ("run", "a.png", "-o", "out.png", "--max-memory", "1K"),
        "an unknown option": ("run", "a.png", "-o", "out.png", "--zzz"),
        "no output": ("run", "a.png"),
        "a folder that is no bundle": ("run", "a.png", "-o", "out.png", "--bundle", "empty"),
        "a checkpoint that is not there": ("export", "--ckpt", "nowhere.pth"),
        "a recipe that is not there": ("train", "no.toml", "--photos", "photos", "-o", "runs"),
    },
    1: {
        "a photo that is damaged": ("run", "bad.png", "-o", "out.png"),
        "one of several that is not there": ("run", "a.png", "nowhere.png", "-o", "done/"),
        "one of several that is damaged": ("run", "a.png", "bad.png", "-o", "done/"),
        "a page of a photo that is damaged": ("report", "bad.png", "-o", "out.html"),
        "a folder as a photo's mask": ("run", "a.png", "-o", "out.png", "--mask-in", "empty"),
        "too many pixels": ("run", "a.png", "-o", "out.png", "--max-pixels", "10"),
        "a bundle that is damaged": ("run", "a.png", "-o", "out.png", "--bundle", "damaged"),
        "the same for many": ("run", "photos", "-o", "out/", "--bundle", "damaged"),
        "a backend that is not here": ("run", "a.png", "-o", "out.png", "--backend", "tensorrt"),
    },
    0: {
        "all done": ("run", "a.png", "-o", "done.png"),
        "all skipped": ("run", "a.png", "-o", "there.png", "--skip-existing"),
    },
}  # fmt: skip


@pytest.mark.parametrize(
    ("code", "arguments"),
    [
        pytest.param(code, arguments, id=f"{code}: {name}")
        for code, cases in EXIT_CODES.items()
        for name, arguments in cases.items()
    ],
)
def test_exit_codes_are_those_of_the_readme(invoke, monkeypatch, code, arguments):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "-1")
    draw("a.png")
    draw("photos/a.png")
    Path("empty").mkdir()
    Path("damaged").mkdir()
    Path("damaged/manifest.json").write_text("{}")
    for name in ("bad.png", "there.png", "there.html"):
        Path(name).write_text("precious")
    before = {path for path in Path().rglob("*") if path.name != "done"}
    result = invoke(*arguments)
    assert result.exit_code == code, result.output
    assert result.exception is None or isinstance(result.exception, SystemExit)
    if code:
        written = {path for path in Path().rglob("*") if path.parts[0] != "done"} - before
        assert not written
        assert Path("there.png").read_text() == "precious"


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
