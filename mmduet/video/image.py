"""Decode still images (JPEG, PNG, WebP) to RGB; limits are checked before decoding."""

from __future__ import annotations

import io
import warnings

import numpy as np
import simplejpeg
from numpy.typing import NDArray
from PIL import Image, ImageOps

from mmduet.errors import VideoError

MAX_PIXELS = 4096 * 4096
FORMATS = ("JPEG", "PNG", "WEBP")


def decode_image(data: bytes, max_pixels: int = MAX_PIXELS) -> NDArray[np.uint8]:
    """Decode to upright RGB uint8 ``[H, W, 3]``. Transparency becomes black; only the first frame is decoded.

    Raises ``VideoError`` for what is none of these, is broken or cut off, or claims more than ``most_pixels``.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow's own warning of large pictures; ours is an error
            with Image.open(io.BytesIO(data), formats=FORMATS) as picture:  # reads the header alone
                width, height = picture.size
                if width * height > max_pixels:
                    raise VideoError(f"the image of {width}x{height} has more than {max_pixels} pixels; scale it down")
                if picture.format == "JPEG" and picture.mode in ("RGB", "L") and not picture.getexif():
                    return np.asarray(simplejpeg.decode_jpeg(data, "RGB"), np.uint8)
                return _rgb(picture)
    except (VideoError, MemoryError):
        raise
    except Exception as error:  # noqa: BLE001 - decoders of others raise what they like at broken files
        raise VideoError(
            f"cannot decode the image ({error}); expected a valid JPEG, PNG or WebP; encode it again"
        ) from None


def _rgb(picture: Image.Image) -> NDArray[np.uint8]:
    upright = ImageOps.exif_transpose(picture)
    if upright.mode in ("RGBA", "LA", "PA") or "transparency" in upright.info:
        upright = upright.convert("RGBA")
        upright = Image.alpha_composite(Image.new("RGBA", upright.size, (0, 0, 0, 255)), upright)
    return np.ascontiguousarray(np.asarray(upright.convert("RGB"), np.uint8))
