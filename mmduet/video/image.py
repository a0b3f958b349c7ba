"""Decode still images (JPEG, PNG, WebP) to RGB; limits are checked before decoding."""

from __future__ import annotations

import io
import warnings

import numpy as np
import simplejpeg
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from mmduet.errors import VideoError

MAX_PIXELS = 4096 * 4096
FORMATS = ("JPEG", "PNG", "WEBP")


def decode_image(data: bytes, max_pixels: int = MAX_PIXELS) -> NDArray[np.uint8]:
    """Decode to upright RGB uint8 ``[H, W, 3]``. Transparency becomes black; only the first frame is decoded.

    Raises ``VideoError`` for other formats, for damaged images and for images of more than ``max_pixels``.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow warns about large images; here they are an error
            with Image.open(io.BytesIO(data), formats=FORMATS) as image:  # reads only the header
                width, height = image.size
                if width * height > max_pixels:
                    raise VideoError(f"the image of {width}x{height} has more than {max_pixels} pixels; scale it down")
                if image.format == "JPEG" and image.mode in ("RGB", "L") and not image.getexif():
                    return np.asarray(simplejpeg.decode_jpeg(data, "RGB"), np.uint8)
                return to_rgb(image)
    except (VideoError, MemoryError):
        raise
    except UnidentifiedImageError:  # its message has the address of an object
        raise VideoError("cannot decode the image: it is not a JPEG, PNG or WebP file; encode it again") from None
    except Exception as error:  # noqa: BLE001 - decoders raise many types on damaged files
        raise VideoError(
            f"cannot decode the image ({error}); expected a valid JPEG, PNG or WebP; encode it again"
        ) from None


def to_rgb(image: Image.Image) -> NDArray[np.uint8]:
    """Return the upright image as uint8 ``[H, W, 3]``; transparency becomes black."""
    upright = ImageOps.exif_transpose(image)
    if upright.mode in ("RGBA", "LA", "PA") or "transparency" in upright.info:
        upright = upright.convert("RGBA")
        upright = Image.alpha_composite(Image.new("RGBA", upright.size, (0, 0, 0, 255)), upright)
    return np.ascontiguousarray(np.asarray(upright.convert("RGB"), np.uint8))
