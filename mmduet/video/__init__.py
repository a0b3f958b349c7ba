"""Read, sample, letterbox and write timed video frames; without torch."""

from __future__ import annotations

from mmduet.video.damage import Damage
from mmduet.video.letterbox import letterbox
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
