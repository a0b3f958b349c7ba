"""Live streams on connections made by hand: when a broken connection is opened again."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from av.container import InputContainer
from av.packet import Packet
from av.stream import Stream
from video_files import make

from mmduet.video.connection import StreamFrame, decode_stream
from mmduet.video.container import open_container
from mmduet.video.damage import DamageLog
from mmduet.video.live import LiveVideo


class BreakingConnection:
    """A connection that breaks after one frame."""

    live, keeps_unread, ended = True, True, False
    duration = fps = None

    def frames(self, log: DamageLog, start: float) -> Iterator[StreamFrame]:
        yield StreamFrame(start, 8, 8, lambda: np.zeros((8, 8, 3), np.uint8))
        raise OSError("the connection broke")

    def close(self) -> None:
        """Do nothing."""


def test_a_pause_of_the_reader_does_not_count_as_time_without_a_connection() -> None:
    video = LiveVideo("camera", BreakingConnection, reconnect_seconds=0.2)
    frames = video.frames(None)
    assert next(frames).decoded_index == 0
    time.sleep(0.3)
    assert next(frames).decoded_index == 1
    assert video.retry_at is None
    video.close()


class CountingContainer:
    """An open container that counts the packets that are read."""

    def __init__(self, container: InputContainer) -> None:
        self._container, self.packets_read = container, 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._container, name)

    def demux(self, streams: list[Stream]) -> Iterator[Packet[Stream]]:
        for packet in self._container.demux(streams):
            self.packets_read += 1
            yield packet


@pytest.mark.parametrize("codec", ["libx264", "mpeg4", "mjpeg"])
def test_a_live_frame_comes_out_before_the_next_packet_is_read(tmp_path: Path, codec: str) -> None:
    pix_fmt = "yuvj420p" if codec == "mjpeg" else "yuv420p"
    path = make(tmp_path / "a.mkv", 8, codec=codec, pix_fmt=pix_fmt, codec_options={"g": "4", "bf": "0"})
    with open_container(path) as container:
        counting: Any = CountingContainer(container)
        frames = decode_stream(counting, "a", DamageLog(), 0.0)
        assert [counting.packets_read for _ in frames] == list(range(1, 9))
