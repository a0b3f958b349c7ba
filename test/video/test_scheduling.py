"""Encoders do not change how threads of the process are scheduled."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from video_files import make

from mmduet.video.scheduling import preserved_scheduling


@pytest.mark.skipif(not hasattr(os, "sched_getscheduler"), reason="this operating system has no scheduling policies")
def test_the_policy_of_the_thread_is_restored() -> None:
    before = os.sched_getscheduler(0)
    with preserved_scheduling():
        os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
    assert os.sched_getscheduler(0) == before


@pytest.mark.skipif(not hasattr(os, "sched_getscheduler"), reason="this operating system has no scheduling policies")
@pytest.mark.parametrize("codec", ["libx264", "libx265", "libsvtav1", "libvpx-vp9"])
def test_making_a_video_leaves_no_real_time_thread(tmp_path: Path, codec: str) -> None:
    before = os.sched_getscheduler(0)
    make(tmp_path / "a.mp4", 5, (64, 64), codec=codec, codec_options={"g": "12"})
    assert os.sched_getscheduler(0) == before
