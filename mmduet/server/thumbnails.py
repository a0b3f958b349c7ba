"""Small JPEG images of a source's frames as the model sees them, for clients that request them."""

from __future__ import annotations

import base64
from collections import OrderedDict
from collections.abc import Callable
from time import monotonic

import numpy as np
import simplejpeg
from numpy.typing import NDArray

from mmduet.protocol.session.token_bucket import TokenBucket
from mmduet.video.letterbox import fit_size, resize

MAX_SIDE, JPEG_QUALITY = 160, 70
PER_SECOND, BURST = 4.0, 2.0
"""Two at once are possible, so that frames at a rate of four per second have a thumbnail each although their times vary."""
MAX_WAITING = 8


class Thumbnails:
    """The thumbnails of one session that wait for the scores of their frames, by pts: the newest ones."""

    def __init__(self, clock: Callable[[], float] = monotonic) -> None:
        self._bucket, self._clock = TokenBucket(PER_SECOND, BURST), clock
        self._waiting: OrderedDict[int, str] = OrderedDict()

    def encode(self, image: NDArray[np.uint8]) -> str | None:
        """Return the thumbnail of RGB ``[H, W, 3]``, or None if there are too many; called by the source's thread."""
        return encode_thumbnail(image) if self._bucket.take(self._clock()) else None

    def add(self, pts: int, thumbnail: str) -> None:
        """Keep the thumbnail of a frame until its scores are known."""
        self._waiting[pts] = thumbnail
        if len(self._waiting) > MAX_WAITING:
            self._waiting.popitem(last=False)

    def take(self, pts: int) -> str | None:
        """Return the thumbnail of a frame that was scored, if it has one, and forget those of earlier frames."""
        found = self._waiting.get(pts)
        for earlier in [waiting for waiting in self._waiting if waiting <= pts]:
            del self._waiting[earlier]
        return found


def encode_thumbnail(image: NDArray[np.uint8]) -> str:
    """Return RGB ``[H, W, 3]`` as the data URL of a JPEG whose longest side is at most ``MAX_SIDE`` pixels."""
    height, width, _ = image.shape
    if max(height, width) > MAX_SIDE:
        image = resize(image, *fit_size(height, width, MAX_SIDE))
    data = simplejpeg.encode_jpeg(np.ascontiguousarray(image), JPEG_QUALITY)
    return f"data:image/jpeg;base64,{base64.b64encode(data).decode()}"
