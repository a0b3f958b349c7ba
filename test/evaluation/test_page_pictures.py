"""The pictures of a report's page: sweeps, how items spread, timelines, film strips."""

from __future__ import annotations

import base64
import io
import math
import re
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from judges import json_file
from pages import svg_of, written
from PIL import Image

from mmduet.evaluation.report import Report
from mmduet.reports.curves import spread_panels, sweep_panels
from mmduet.reports.drawing import DARK, nice_ticks
from mmduet.reports.film import MOST_SECONDS, Films
from mmduet.reports.timeline import MOST_POINTS, lanes_of, numbered, thinned, timeline
from mmduet.reports.told import Curve, Event, Told, Turn
from mmduet.video import VideoWriter

Json = dict[str, Any]


def items(*values: float) -> list[Json]:
    return [{"id": f"q{place}", "mIoU": value} for place, value in enumerate(values)]


def test_pictures_follow_the_readers_mode(tmp_path: Path) -> None:
    page = written(tmp_path, Report("grounding", {"mIoU": 40.0}, items(10.0, 70.0)))
    for attrs in page.all("img"):
        svg = svg_of(attrs["src"])
        ElementTree.fromstring(svg)
        assert "prefers-color-scheme:dark" in svg
        assert "var(--c1f2328)" in svg
        outside = re.sub(r"<style>.*?</style>", "", svg, flags=re.DOTALL)
        assert not any(light in outside for light in DARK)


def test_every_dark_colour_is_its_own() -> None:
    assert len(set(DARK.values())) == len(DARK)
    assert all(re.fullmatch("#[0-9a-f]{6}", colour) for pair in DARK.items() for colour in pair)


def contrast(one: str, other: str) -> float:
    """WCAG 2.2."""

    def luminance(colour: str) -> float:
        parts = [int(colour[k : k + 2], 16) / 255 for k in (1, 3, 5)]
        linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts]
        return float(np.dot(linear, [0.2126, 0.7152, 0.0722]))

    high, low = sorted((luminance(one), luminance(other)), reverse=True)
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("side", [0, 1], ids=["light", "dark"])
def test_everything_stands_out_from_the_paper(side: int) -> None:
    paper, ink, faint, _, *marks = [pair[side] for pair in DARK.items()]
    assert min(contrast(paper, text) for text in (ink, faint)) >= 4.5
    assert min(contrast(paper, mark) for mark in marks) >= 3


def swept(axes: dict[str, Sequence[float]], value: Callable[..., float]) -> Report:
    rows: list[Json] = [{}]
    for name, values in axes.items():
        rows = [{**row, name: v} for row in rows for v in values]
    return Report("grounding", {"mIoU": 1.0}, sweep=[{**row, "mIoU": value(**row)} for row in rows])


def test_a_sweep_over_two_settings_is_a_heat_map() -> None:
    report = swept(
        {"smoothing": range(15), "threshold": [0.3, 0.32, 0.5]}, lambda smoothing, threshold: smoothing * threshold
    )
    (panel,) = sweep_panels(report)
    assert panel.remark == "best 7.00 at smoothing 14, threshold 0.5"
    assert (panel.low, panel.high) == ("0.00", "7.00")
    assert "<image" in svg_of(panel.picture.src)
    assert panel.picture.alt == f"Heat map of mIoU over smoothing and threshold: {panel.remark}"


def test_a_sweep_over_one_setting_is_a_line() -> None:
    (panel,) = sweep_panels(swept({"smoothing": range(15)}, lambda smoothing: 50.0 - (smoothing - 3) ** 2))
    assert panel.remark == "best 50.00 at smoothing 3"
    assert panel.low == ""
    assert "<image" not in svg_of(panel.picture.src)


def test_equal_settings_are_told() -> None:
    axes = {"smoothing": range(3), "threshold": [0.3, 0.5]}
    (flat,) = sweep_panels(swept(axes, lambda smoothing, threshold: 7.0))
    assert (flat.remark, flat.low) == ("7.00 at every setting", "")
    (tied,) = sweep_panels(swept(axes, lambda smoothing, threshold: 1.0 * min(smoothing, 1)))
    assert tied.remark == "best 1.00 at smoothing 1, threshold 0.3 and 3 more"


@pytest.mark.parametrize("axes", [{}, {"a": [1]}, {"a": [1, 2], "b": [1, 2], "c": [1, 2]}])
def test_other_sweeps_are_tables_alone(tmp_path: Path, axes: dict[str, Sequence[float]]) -> None:
    report = swept(axes, lambda **_: 12.5)
    assert sweep_panels(report) == []
    assert "12.50" in written(tmp_path, report).text


def test_a_setting_without_a_number_is_left_open() -> None:
    report = swept(
        {"smoothing": [0, 1], "threshold": [0.3, 0.5]},
        lambda smoothing, threshold: math.nan if smoothing else threshold,
    )
    (panel,) = sweep_panels(report)
    assert panel.remark == "best 0.50 at smoothing 0, threshold 0.5"


def test_how_items_spread() -> None:
    histogram, ranked = spread_panels(Report("grounding", {}, items(0.0, 0.0, 100.0, 20.0, math.nan)))
    assert histogram.remark == "4 items, mean 30.00, median 10.00"
    assert ranked.remark == "50 % have 0, 25 % have 100"
    assert spread_panels(Report("grounding", {"mIoU": 1.0})) == []


@given(st.floats(-1e6, 1e6), st.floats(1e-3, 1e12), st.integers(1, 12))
def test_ticks_are_few_and_inside(low: float, length: float, most: int) -> None:
    high = low + length
    ticks = nice_ticks(low, high, most)
    slack = 1e-6 * length
    assert len(ticks) <= most + 1
    assert all(low - slack <= tick <= high + slack for tick in ticks)
    assert all(a < b for a, b in pairwise(ticks))


# Timelines


times = st.floats(-10, 1e7) | st.sampled_from([0.0, 1e-320, 0.011, 1e7])
events = st.lists(st.tuples(times, times).map(lambda pair: Event(min(pair), max(pair))), max_size=8).map(tuple)
curves = st.lists(st.tuples(times, st.floats(-1e12, 1e12) | st.floats(0, 1)), min_size=1, max_size=6).map(
    lambda points: Curve("relevance", *zip(*sorted(points), strict=True))
)


@given(
    events,
    events,
    st.lists(times.map(lambda time: Turn(time, time < 5, "x")), max_size=6).map(tuple),
    st.none() | curves,
)
@settings(max_examples=15)
def test_whatever_is_told_is_drawn(
    gold: tuple[Event, ...], said: tuple[Event, ...], turns: tuple[Turn, ...], curve: Curve | None
) -> None:
    right, given_ = Told(events=gold), Told(events=said, turns=turns, curves=(curve,) if curve else ())
    span = max(right.latest, given_.latest)
    drawn = timeline(right, given_, span)
    if drawn is not None:
        ElementTree.fromstring(svg_of(drawn.src))
    else:
        assert span < 0.011 or not (gold or said or curve or any(not turn.user and turn.time >= 0 for turn in turns))


@given(events)
def test_on_a_lane_nothing_overlaps(given_: tuple[Event, ...]) -> None:
    lanes = lanes_of(given_, 100.0)
    assert len(lanes) <= 6
    placed = sorted(number for lane in lanes for number, _ in lane)
    assert len(placed) == len(set(placed))
    if len(given_) <= 6:
        assert placed == list(range(1, len(given_) + 1))
    for lane in lanes:
        assert all(before[1].end <= after[1].start + 100 / 1040 for before, after in pairwise(lane))


def test_turns_are_numbered_by_time() -> None:
    turns = [Turn(5.0, False, "b"), Turn(-1.0, False, "c"), Turn(1.0, False, "a"), Turn(0.0, True, "q")]
    assert [(mark, turn.text) for mark, turn in numbered(turns)] == [("Q", "q"), ("1", "a"), ("2", "b"), ("3", "c")]


def test_long_curves_keep_their_peaks() -> None:
    values = [0.0] * 50_001
    values[31_337] = 1.0
    times, kept = thinned(Curve("relevance", [float(k) for k in range(50_001)], values))
    assert len(times) == len(kept) <= MOST_POINTS
    assert times[kept.index(1.0)] == 31_337


# Films


def film(path: Path, seconds: float, fps: float = 10.0, size: tuple[int, int] = (64, 64)) -> Path:
    """A video that grows brighter by 10 levels a second."""
    with VideoWriter(path, *size, fps) as writer:
        for k in range(round(seconds * fps)):
            writer.write(np.full((size[1], size[0], 3), round(10 * k / fps), np.uint8))
    return path


def brightness(src: str) -> float:
    head, _, body = src.partition(",")
    assert head == "data:image/jpeg;base64"
    return float(np.asarray(Image.open(io.BytesIO(base64.b64decode(body)))).mean())


def test_a_strip_is_spread_over_the_time_shown(tmp_path: Path) -> None:
    film(tmp_path / "v.mp4", 20.0)
    strip = Films(tmp_path).strip(["v"], 20.0)  # without its ending
    assert strip.remark == ""
    assert len(strip.pictures) == 11
    middles = [(slot + 0.5) * 20 / 11 for slot in range(11)]
    for middle, picture in zip(middles, strip.pictures, strict=True):
        assert picture is not None
        assert brightness(picture.src) == pytest.approx(10 * middle, abs=3)  # a frame is 1 level, the codec has 2
        assert picture.alt == f"Frame at {math.ceil(10 * middle) / 10:.1f} s"


def test_beyond_the_end_of_a_video_there_is_no_picture(tmp_path: Path) -> None:
    film(tmp_path / "v.mp4", 10.0)
    pictures = Films(tmp_path).strip(["v.mp4"], 20.0).pictures
    assert [picture is None for picture in pictures] == [False] * 6 + [True] * 5
    assert Films(tmp_path).length(["nowhere", "v.mp4"]) == pytest.approx(10.0)


def test_wide_films_have_fewer_pictures(tmp_path: Path) -> None:
    film(tmp_path / "wide.mp4", 2.0, size=(128, 64))
    film(tmp_path / "tall.mp4", 2.0, size=(64, 128))
    assert [len(Films(tmp_path).strip([name], 0.0).pictures) for name in ("wide", "tall")] == [6, 12]


@pytest.mark.parametrize("name", ["gone.mp4", "../v.mp4", "/etc/passwd", "", ".", "a\0b", "x" * 5000, "\ud800"])
def test_a_video_that_is_not_in_the_folder_is_told(tmp_path: Path, name: str) -> None:
    film(tmp_path / "v.mp4", 1.0)
    (tmp_path / "inner").mkdir()
    strip = Films(tmp_path / "inner").strip([name], 5.0)
    assert strip.pictures == ()
    assert "is not in the folder" in strip.remark


def test_a_damaged_video_gives_what_it_has(tmp_path: Path) -> None:
    (tmp_path / "empty.mp4").touch()
    (tmp_path / "text.mp4").write_text("no video")
    whole = film(tmp_path / "cut.mp4", 20.0).read_bytes()
    (tmp_path / "cut.mp4").write_bytes(whole[: len(whole) * 6 // 10])
    films = Films(tmp_path)
    assert films.strip(["empty.mp4"], 5.0).remark == "empty.mp4 cannot be read (corrupt_video)."
    assert films.strip(["text.mp4"], 5.0).remark == "text.mp4 cannot be read (corrupt_video)."
    assert films.length(["text.mp4"]) == 0.0
    cut = films.strip(["cut.mp4"], 20.0)
    assert cut.remark == "cut.mp4 cannot be read to its end (corrupt_video)."
    assert cut.pictures[0] is not None
    assert cut.pictures[-1] is None


def test_films_of_hours_are_not_decoded(tmp_path: Path) -> None:
    with VideoWriter(tmp_path / "long.mp4", 16, 16, 1.0) as writer:
        for time in (0.0, MOST_SECONDS + 5):
            writer.write(np.zeros((16, 16, 3), np.uint8), time)
    assert "longer than 15 minutes" in Films(tmp_path).strip(["long.mp4"], 0.0).remark


def test_a_case_has_its_film(tmp_path: Path) -> None:
    film(tmp_path / "v.mp4", 8.0)
    gold = [
        {"question_id": f"q{k}", "video": name, "timestamps": [[1, 2]]} for k, name in enumerate(["v.mp4", "gone.mp4"])
    ]
    report = Report("grounding", {"mIoU": 1.0}, items(1.0, 2.0))
    page = written(tmp_path, report, annotations=json_file(tmp_path / "a.json", gold), videos=tmp_path)
    assert page.of_class("film") == 1
    assert "The video gone.mp4 is not in the folder." in page.text
    lines = [attrs["alt"] or "" for attrs in page.all("img") if attrs.get("class") == "line"]
    assert lines == [
        "Timeline of 8.0 s: 1 gold span",
        "Timeline of 2.0 s: 1 gold span",
    ]  # as long as the film, where there is one
