"""Encode the images of a client for the wire."""

from __future__ import annotations

import io
from typing import Literal

import numpy as np
import simplejpeg
from numpy.typing import NDArray
from PIL import Image

from mmduet.errors import OptionError
from mmduet.protocol.frames import EncodedImage, ImageFormat, detect_format
from mmduet.video.letterbox import check_image

Encoding = Literal["jpeg", "png", "raw"]
JPEG_QUALITY = 90


def encode_image(image: NDArray[np.uint8] | bytes, encoding: Encoding = "jpeg") -> EncodedImage:
    """Encode RGB uint8 ``[H, W, 3]``, or wrap bytes that are already encoded. Raises ``OptionError`` for invalid input."""
    if isinstance(image, bytes):
        image_format = detect_format(image)
        if image_format is None:
            raise OptionError(
                f"an image of {len(image)} bytes is not JPEG, PNG or WebP; use one of these formats or an array"
            )
        return EncodedImage(image_format, image)
    check_image(image)
    image = np.ascontiguousarray(image)
    if encoding == "jpeg":
        return EncodedImage(ImageFormat.JPEG, simplejpeg.encode_jpeg(image, JPEG_QUALITY, colorsubsampling="444"))
    if encoding == "png":
        buffer = io.BytesIO()
        Image.fromarray(image).save(buffer, "PNG", compress_level=1)
        return EncodedImage(ImageFormat.PNG, buffer.getvalue())
    if encoding == "raw":
        return EncodedImage(ImageFormat.RAW, image.tobytes(), image.shape[1], image.shape[0])
    raise OptionError(f"encoding must be 'jpeg', 'png' or 'raw', got {encoding!r}")
