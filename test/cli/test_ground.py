"""``mmduet ground``: the spans that a query is about, offline and online."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from command_line import Command, check_plot, in_process
from task_commands import iou, report, tables


@pytest.fixture
def ground(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    return in_process(monkeypatch, capsys, "ground")


@pytest.mark.parametrize("k", [0, 1, 2])
@pytest.mark.parametrize("online", [(), ("--online",)])
def test_best_span_overlaps_the_annotated_one(
    ground: Command, clips: Any, tmp_path: Path, k: int, online: tuple[str, ...]
) -> None:
    grounding = clips.truth[k]["groundings"][0]
    files = ("--output", tmp_path / "a.json", "--plot", tmp_path / "a.png")
    done = ground(clips.video(k), "--query", grounding["query"], *online, *files)
    assert done.status == 0, done.err
    (entry,) = report(tmp_path / "a.json")["videos"]
    rows = tables(done)[clips.truth[k]["video"]]
    assert [row[:2] for row in rows] == [[f"{s['start']:.2f}", f"{s['end']:.2f}"] for s in entry["spans"]]
    best = entry["best"] if not online else max(entry["spans"], key=lambda span: span["end"] - span["start"])
    assert max(iou((best["start"], best["end"]), (s, e)) for s, e in grounding["timestamps"]) > 0.5
    check_plot(tmp_path / "a.png")
    if online:
        assert all(span["start"] <= span["start_told"] <= span["start"] + 1 for span in entry["spans"])
    else:
        assert [row[-1] for row in rows].count("best") == 1
        assert len(entry["mask"]) == len(entry["scores"])


def test_absent_object_is_not_found(ground: Command, clips: Any) -> None:
    done = ground(clips.video(0), "--query", clips.truth[0]["absent"]["query"])
    assert (done.status, done.err) == (0, "")
    assert "nothing found" in done.out


def test_query_is_required(ground: Command, clips: Any) -> None:
    assert ground(clips.video(0)).status == 2
    done = ground(clips.video(0), "--query", "")
    assert (done.status, "no text" in done.err) == (2, True)
