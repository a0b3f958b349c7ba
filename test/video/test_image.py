"""Still images: supported formats, and errors that describe the image rather than the decoder."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from mmduet.errors import VideoError
from mmduet.video.image import decode_image


def encoded(kind: str, size: tuple[int, int] = (40, 30)) -> bytes:
    pixels = np.random.default_rng(0).integers(0, 255, (size[1], size[0], 3), np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, kind)
    return file.getvalue()


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_supported_formats_are_decoded(kind: str) -> None:
    assert decode_image(encoded(kind)).shape == (30, 40, 3)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"text",
        b"A" * 3_000_000,
        encoded("GIF"),
        encoded("BMP"),
        *(encoded(kind)[:60] for kind in ("JPEG", "PNG", "WEBP")),
    ],
    ids=["empty", "text", "long", "gif", "bmp", "cut jpeg", "cut png", "cut webp"],
)
def test_errors_are_short_and_name_no_objects(data: bytes) -> None:
    with pytest.raises(VideoError, match="cannot decode the image") as raised:
        decode_image(data)
    assert " object at 0x" not in str(raised.value)
    assert len(str(raised.value)) < 240
