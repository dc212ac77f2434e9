"""Wrong words on the command line: told by the parser alone, before a bundle is looked for."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner
from command_pictures import draw

from m2a.cli import main


class TestWords:
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
