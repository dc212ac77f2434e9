"""What a file is said to be that is not read."""

from __future__ import annotations

import io

import pytest
from PIL import Image

from m2a.errors import ImageError
from m2a.runtime.decoding import decode_photo
from m2a.runtime.recognition import describe_other


def test_an_animation_is_named_and_what_to_do_with_it():
    content = io.BytesIO()
    frames = [Image.new("P", (8, 8), value) for value in (0, 1)]
    frames[0].save(content, "GIF", save_all=True, append_images=frames[1:])
    with pytest.raises(ImageError) as caught:
        decode_photo(content.getvalue(), origin="a.gif")
    assert str(caught.value) == (
        "a.gif: found a GIF picture, expected one of JPEG, PNG, TIFF, WebP, AVIF/HEIF; "
        "animated pictures are not read; save the first frame as PNG"
    )


@pytest.mark.parametrize("kind", ["BMP", "JPEG2000", "PDF"])
def test_what_pillow_writes_is_recognised(kind):
    content = io.BytesIO()
    Image.new("RGB", (8, 8)).save(content, kind)
    name, advice = describe_other(content.getvalue())
    assert kind[:4].removesuffix("G2") in name
    assert advice


@pytest.mark.parametrize(
    ("content", "kind"),
    [
        (b"", "an empty file"),
        (b"text", "an unknown kind of file"),
        (b"<!DOCTYPE html><p>Not found", "a web page"),
        (b"\0\0\0\x18ftypmp42", "a video"),
        (b"\0\0\0\x18ftypcrx ", "a camera raw file"),
    ],
)
def test_others(content, kind):
    assert describe_other(content)[0] == kind
