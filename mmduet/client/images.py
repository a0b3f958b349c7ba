"""How a client's pictures are encoded for the wire."""

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
    """RGB uint8 ``[H, W, 3]`` in an encoding, or bytes that are encoded already. Raises ``OptionError`` for anything else."""
    if isinstance(image, bytes):
        kind = detect_format(image)
        if kind is None:
            raise OptionError(f"{len(image)} bytes are no JPEG, PNG or WebP; give one of these, or an array")
        return EncodedImage(kind, image)
    check_image(image)
    image = np.ascontiguousarray(image)
    if encoding == "jpeg":
        return EncodedImage(ImageFormat.JPEG, simplejpeg.encode_jpeg(image, JPEG_QUALITY, colorsubsampling="444"))
    if encoding == "png":
        buffer = io.BytesIO()
        Image.fromarray(image).save(buffer, "PNG", compress_level=1)
        return EncodedImage(ImageFormat.PNG, buffer.getvalue())
    return EncodedImage(ImageFormat.RAW, image.tobytes(), image.shape[1], image.shape[0])
