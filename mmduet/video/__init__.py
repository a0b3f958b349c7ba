"""Read, sample, letterbox and write timed video frames; without torch.

Names that need PyAV or Pillow are imported when they are first used, so that models run without these packages.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from mmduet.video.letterbox import letterbox  # at once: later, the module of this name would hide the function

if TYPE_CHECKING:
    from mmduet.video.damage import Damage
    from mmduet.video.reader import FrameReader, open_frames
    from mmduet.video.sampling import paper_frame_count, sample_by_clock, sample_by_pts
    from mmduet.video.source import VideoInfo
    from mmduet.video.video_file import DecodedFrame, VideoFile
    from mmduet.video.writer import VideoWriter

__all__ = [
    "Damage",
    "DecodedFrame",
    "FrameReader",
    "VideoFile",
    "VideoInfo",
    "VideoWriter",
    "letterbox",
    "open_frames",
    "paper_frame_count",
    "sample_by_clock",
    "sample_by_pts",
]
_MODULE_OF = {
    "Damage": "damage",
    "DecodedFrame": "video_file",
    "FrameReader": "reader",
    "VideoFile": "video_file",
    "VideoInfo": "source",
    "VideoWriter": "writer",
    "open_frames": "reader",
    "paper_frame_count": "sampling",
    "sample_by_clock": "sampling",
    "sample_by_pts": "sampling",
}


def __getattr__(name: str) -> Any:
    """Import a name when it is first used."""
    if name not in _MODULE_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{_MODULE_OF[name]}"), name)
    globals()[name] = value
    return value
