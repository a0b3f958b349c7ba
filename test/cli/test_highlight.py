"""``mmduet highlight``: the most salient moments, and video files cut to exactly these."""

from __future__ import annotations

from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from command_line import Command, check_plot, in_process
from task_commands import report, tables

from mmduet.video import VideoFile


@pytest.fixture
def highlight(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    return in_process(monkeypatch, capsys, "highlight")


def read_images(path: Path, start: float = 0.0, end: float = 1e9) -> list[np.ndarray]:
    return [f.image.astype(np.int16) for f in VideoFile(path) if start - 1e-3 <= f.time < end - 1e-3]


def images_match(first: list[np.ndarray], second: list[np.ndarray]) -> bool:
    """Whether two lists of images are equal but for compression."""
    return len(first) == len(second) and all(np.abs(a - b).mean() < 5 for a, b in zip(first, second, strict=True))


def test_top_highlight_lies_in_an_annotated_window(highlight: Command, clips: Any, tmp_path: Path) -> None:
    annotated = [k for k, clip in enumerate(clips.truth) if clip["highlights"]]  # too short events have none
    assert len(annotated) >= 2
    for k in annotated:
        check_top_highlight(highlight, clips, tmp_path, k)


def check_top_highlight(highlight: Command, clips: Any, tmp_path: Path, k: int) -> None:
    annotation = clips.truth[k]["highlights"][0]
    done = highlight(clips.video(k), "--query", annotation["query"], "--output", tmp_path / "a.json")
    assert done.status == 0, done.err
    (entry,) = report(tmp_path / "a.json")["videos"]
    best = entry["top"][0]
    middle = (best["start"] + best["end"]) / 2
    assert any(start <= middle <= end for start, end in annotation["relevant_windows"])
    ratings_by_clip = dict(zip(annotation["relevant_clip_ids"], annotation["saliency_scores"], strict=True))
    assert 4 in ratings_by_clip[int(np.argmax(entry["clips"]))]


def test_highlights_without_a_query_lie_at_events(highlight: Command, clips: Any, tmp_path: Path) -> None:
    done = highlight(clips.video(0), "--top", "3", "--output", tmp_path / "a.json", "--plot", tmp_path / "a.png")
    assert done.status == 0, done.err
    (entry,) = report(tmp_path / "a.json")["videos"]
    top = entry["top"]
    assert 1 <= len(top) <= 3
    assert len(tables(done)[clips.truth[0]["video"]]) == len(top)
    assert [h["score"] for h in top] == sorted((h["score"] for h in top), reverse=True)
    assert all(a["end"] <= b["start"] or b["end"] <= a["start"] for a, b in combinations(top, 2))
    for found in top:
        assert any(e["start"] < found["end"] and found["start"] < e["end"] + 0.5 for e in clips.truth[0]["events"])
    check_plot(tmp_path / "a.png")


def test_cut_files_contain_exactly_the_highlights(highlight: Command, clips: Any, tmp_path: Path) -> None:
    folder = tmp_path / "new" / "cuts"
    done = highlight(clips.video(0), clips.video(1), "--cut", folder, "--output", tmp_path / "a.json")
    assert done.status == 0, done.err
    for k, entry in enumerate(report(tmp_path / "a.json")["videos"]):
        source, spans = clips.video(k), [(h["start"], h["end"]) for h in entry["top"]]
        for rank, (start, end) in enumerate(spans, 1):
            assert images_match(
                read_images(folder / f"{source.stem}-highlight-{rank}.mp4"), read_images(source, start, end)
            )
        reel = [image for start, end in sorted(spans) for image in read_images(source, start, end)]
        assert images_match(read_images(folder / f"{source.stem}-reel.mp4"), reel)
        assert f"{source.stem}-reel.mp4" in done.out
    assert not [path for path in folder.iterdir() if path.suffix != ".mp4"]


def test_copy_reports_the_key_frame_it_starts_at(highlight: Command, clips: Any, tmp_path: Path) -> None:
    done = highlight(clips.video(0), "--cut", tmp_path, "--copy", "--top", "1")
    assert done.status == 0, done.err
    assert "0.00 to " in done.out  # the first frame is the only key frame of the clips
    assert "from the key frame before" in done.out
    copied = read_images(tmp_path / f"{clips.video(0).stem}-highlight-1.mp4")
    assert images_match(copied, read_images(clips.video(0))[: len(copied)])


def test_invalid_cut_options_are_rejected(highlight: Command, clips: Any, tmp_path: Path) -> None:
    done = highlight(clips.video(0), "--copy")
    assert (done.status, "--cut DIR" in done.err) == (2, True)
    (tmp_path / "file").write_text("")
    assert highlight(clips.video(0), "--cut", tmp_path / "file").status == 2
    assert highlight(clips.video(0), "--top", "0").status == 2


def test_cut_files_never_overwrite_an_input_video(highlight: Command, clips: Any, tmp_path: Path) -> None:
    first, second = tmp_path / "a.mp4", tmp_path / "a-reel.mp4"
    for path in (first, second):
        path.write_bytes(clips.video(0).read_bytes())
    done = highlight(first, second, "--cut", tmp_path)
    assert done.status == 1
    assert "a.mp4: error[bad_option]: --cut would write over" in done.err
    assert second.read_bytes() == clips.video(0).read_bytes()
    assert sorted(path.name for path in tmp_path.glob("a-highlight*")) == []
    assert (tmp_path / "a-reel-reel.mp4").exists()


def test_results_are_written_even_if_a_clip_cannot_be_written(highlight: Command, clips: Any, tmp_path: Path) -> None:
    video = clips.video(0)
    (tmp_path / "cuts" / f"{video.stem}-highlight-1.mp4").mkdir(parents=True)  # a folder in the place of the clip
    done = highlight(video, "--cut", tmp_path / "cuts", "--output", tmp_path / "a.json")
    assert done.status == 4
    assert f"{video.stem}-highlight-1.mp4" in done.err
    (entry,) = report(tmp_path / "a.json")["videos"]
    assert entry["error"]["code"] == "video_write"
    assert entry["top"]
    assert entry["scores"]
