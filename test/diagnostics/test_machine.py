"""The processor's properties, as Linux lists them, and the video decoders of PyAV."""

from __future__ import annotations

from pathlib import Path

import pytest

from mmduet.diagnostics.machine import processor
from mmduet.diagnostics.media import DECODERS, ffmpeg_libraries, video_decoders


@pytest.mark.parametrize(
    ("text", "name", "instructions"),
    [
        ("model name\t: Xeon\nflags\t: fpu avx2 amx_bf16 avx\n\nmodel name\t: other\n", "Xeon", ("avx2", "amx_bf16")),
        ("processor\t: 0\nmodel name\t: Old\nflags\t: fpu sse2\n", "Old", ()),
        ("processor\t: 0\nFeatures\t: fp asimd bf16 i8mm\n", None, ("asimd", "bf16", "i8mm")),
        ("", None, None),
    ],
    ids=["x86", "old", "arm", "empty"],
)
def test_name_and_instructions(
    tmp_path: Path, text: str, name: str | None, instructions: tuple[str, ...] | None
) -> None:
    (tmp_path / "cpuinfo").write_text(text)
    found = processor(3, tmp_path / "cpuinfo")
    assert (found.cores, found.instructions) == (3, instructions)
    assert found.name == name if name else found.name


def test_a_system_without_the_list_has_no_instructions(tmp_path: Path) -> None:
    assert processor(1, tmp_path / "none").instructions is None


def test_usual_codecs_can_be_decoded() -> None:
    found = video_decoders()
    assert found.keys() == DECODERS.keys()
    assert found["H.264"] == "h264"
    assert "libavcodec" in ffmpeg_libraries()
