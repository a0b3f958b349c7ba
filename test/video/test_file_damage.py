"""Files that are not videos, and damaged videos."""

from __future__ import annotations

import random
import wave
from pathlib import Path

import av
import pytest
from video_files import count_until_error, make, packets, times_until_error

from mmduet.errors import CorruptVideoError, NoVideoStreamError, VideoError, VideoNotFoundError
from mmduet.video import VideoFile

# --- not a video ----------------------------------------------------------------------------------------------


def test_missing_files_directories_and_empty_files_are_rejected(tmp_path: Path) -> None:
    for name, kind in {
        "https://u:pw@cam/x?a=b": "https://cam/x is an address",
        "webcam:1": "webcam:1 is a camera",
    }.items():
        with pytest.raises(VideoNotFoundError, match=f"^{kind}, not a file; use it with `mmduet stream`"):
            VideoFile(name)
    with pytest.raises(
        VideoNotFoundError, match=r"^rstp://cam/x is an address with the unsupported scheme rstp, not a file;"
    ):
        VideoFile("rstp://u:pw@cam/x")
    with pytest.raises(VideoNotFoundError, match=r"nope\.mp4 does not exist"):
        VideoFile(tmp_path / "nope.mp4")
    with pytest.raises(VideoError, match="is a directory"):
        VideoFile(tmp_path)
    (tmp_path / "empty.mp4").touch()
    with pytest.raises(CorruptVideoError, match="is empty"):
        VideoFile(tmp_path / "empty.mp4")


@pytest.mark.parametrize("name", ["notes.txt", "notes.mp4", "notes"])
def test_a_text_file_is_rejected(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("a line of text\n" * 200)
    with pytest.raises(CorruptVideoError, match=name):
        VideoFile(tmp_path / name)


def test_a_file_of_random_bytes_is_rejected(tmp_path: Path) -> None:
    (tmp_path / "noise.mp4").write_bytes(random.Random(0).randbytes(20_000))
    with pytest.raises(VideoError, match=r"noise\.mp4"):
        list(VideoFile(tmp_path / "noise.mp4"))


def test_an_audio_file_is_rejected(tmp_path: Path) -> None:
    with wave.open(str(tmp_path / "a.wav"), "wb") as sound:
        sound.setnchannels(1)
        sound.setsampwidth(2)
        sound.setframerate(8000)
        sound.writeframes(bytes(16000))
    with pytest.raises(NoVideoStreamError, match="no video stream"):
        VideoFile(tmp_path / "a.wav")


def test_a_video_stream_without_frames_is_rejected(tmp_path: Path) -> None:
    path = tmp_path / "none.mp4"
    with av.open(str(path), "w", options={"movflags": "empty_moov"}) as container:
        stream = container.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        container.start_encoding()
    with pytest.raises(NoVideoStreamError, match="has a video stream without frames; give a file with video"):
        VideoFile(path)


# --- damage -----------------------------------------------------------------------------------------------------------


def test_a_file_truncated_before_its_index_is_rejected(tmp_path: Path) -> None:
    path = make(tmp_path / "a.mp4")
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 6 // 10])
    with pytest.raises(CorruptVideoError, match="cut off before its index"):
        VideoFile(path)


@pytest.mark.parametrize("reorder", ["0", "2"])
@pytest.mark.parametrize("part", [0.5, 0.8, 0.97])
def test_a_file_truncated_after_its_index_fails_after_the_remaining_frames(
    tmp_path: Path, reorder: str, part: float
) -> None:
    path = make(tmp_path / "a.mp4", 60, options={"movflags": "faststart"}, codec_options={"g": "10", "bf": reorder})
    whole = packets(path)
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * part)])
    left = sum(position + size <= path.stat().st_size for position, size, _ in whole)
    count, error = count_until_error(path)
    assert error is not None
    assert left - 4 <= count <= left
    assert count < 60


def test_truncation_between_two_packets_near_the_end_is_detected(tmp_path: Path) -> None:
    path = make(tmp_path / "a.mp4", 60, options={"movflags": "faststart"}, codec_options={"bf": "0"})
    path.write_bytes(path.read_bytes()[: packets(path)[58][0]])  # too little is missing to be detected by the duration
    count, error = count_until_error(path)
    assert error is not None
    assert count == 58


@pytest.mark.parametrize("name", ["a.mkv", "a.avi"])
def test_truncation_is_detected_in_other_containers(tmp_path: Path, name: str) -> None:
    path = make(tmp_path / name, 75, codec="mpeg4" if name == "a.avi" else "libx264")
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    count, error = count_until_error(path)
    assert error is not None
    assert 10 < count < 45


@pytest.mark.parametrize("reorder", ["0", "3"])
@pytest.mark.parametrize("kind", ["zeros", "noise"])
@pytest.mark.parametrize("damaged", [1, 13, 30, 41, 59])
def test_a_damaged_packet_fails_after_the_frames_before_it(
    tmp_path: Path, reorder: str, kind: str, damaged: int
) -> None:
    path = make(tmp_path / "a.mp4", 60, codec_options={"g": "30", "bf": reorder, "b-adapt": "0"})
    whole, data = packets(path), bytearray(path.read_bytes())
    position, size, pts = whole[damaged]
    data[position : position + size] = bytes(size) if kind == "zeros" else random.Random(1).randbytes(size)
    path.write_bytes(data)
    count, error = count_until_error(path)
    assert error is not None
    assert f"after {count} frames" in str(error)
    before = sum(other < pts for _, _, other in whole)
    held = int(reorder) if damaged == 59 else 0  # at the end the decoder may keep frames that it is still reordering
    assert before - held <= count <= before


def test_damage_in_the_first_packet_is_rejected_when_opening(tmp_path: Path) -> None:
    path = make(tmp_path / "a.mp4", 10, codec_options={"g": "30", "bf": "0"})
    data, (position, size, _) = bytearray(path.read_bytes()), packets(path)[0]
    data[position : position + size] = bytes(size)
    path.write_bytes(data)
    with pytest.raises(CorruptVideoError, match="after 0 frames"):
        VideoFile(path, strict=True)


def test_damage_inside_a_frame_is_mostly_detected(tmp_path: Path) -> None:
    found = 0
    for seed in range(8):
        path = make(tmp_path / f"{seed}.mp4", 40, (96, 128))
        data, (position, size, _) = bytearray(path.read_bytes()), packets(path)[20]
        place = position + size // 3
        data[place : place + 30] = random.Random(seed).randbytes(30)
        path.write_bytes(data)
        count, error = count_until_error(path)
        assert error is None or 16 <= count <= 24
        found += error is not None
    assert found >= 6  # some random bytes decode to a wrong but valid frame


def test_every_iteration_over_a_damaged_file_fails(tmp_path: Path) -> None:
    path = make(tmp_path / "a.mp4", 60, options={"movflags": "faststart"})
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    file = VideoFile(path, strict=True)
    first, second = times_until_error(file), times_until_error(file)
    assert first[0] == second[0]
    assert first[1] is not None
    assert second[1] is not None
