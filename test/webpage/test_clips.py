"""Sample clips: the committed files, how they are served, and that nano answers their queries."""

from __future__ import annotations

import asyncio
import io
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from live_server import RunningServer, run_test_server
from page_visitor import HTTP
from PIL import Image

from mmduet.model import LoadedModel, load_model
from mmduet.pipelines.pipeline import pipeline
from mmduet.scenes.scene_generator import generate_scene
from mmduet.scenes.world import Event
from mmduet.webpage import sample_clips
from mmduet.webpage.page import CLIPS, add_page
from mmduet.webpage.playback import browser_media_type
from mmduet.webpage.sample_clips import RECIPES, ClipRecipe, SampleClips, clip_path, ensure_clips, render_clip

MAX_BYTES = 300_000
LATEST_SECONDS = 2.0
"""How long after an event its reply may come."""


@pytest.fixture(scope="module")
def server() -> Iterator[RunningServer]:
    with run_test_server(extend=add_page) as server:
        yield server


@pytest.fixture(scope="module")
def nano() -> LoadedModel:
    return load_model("nano")


def test_the_committed_clips_are_small_and_play_in_browsers() -> None:
    assert {path.name for path in CLIPS.iterdir()} == {f"{recipe.name}.mp4" for recipe in RECIPES}
    for path in CLIPS.iterdir():
        assert path.stat().st_size < MAX_BYTES
        assert browser_media_type(path) == "video/mp4"


def test_clips_are_listed_and_served(server: RunningServer) -> None:
    page = f"{server.http}/page/"
    clips = HTTP.get(f"{page}clips").json()
    assert [clip["name"] for clip in clips] == [recipe.name for recipe in RECIPES]
    clip = clips[0]
    assert clip["source"] == "clip:arrivals"
    assert clip["duration_s"] == pytest.approx(15, abs=0.1)
    file = (CLIPS / "arrivals.mp4").read_bytes()
    assert HTTP.get(page + clip["preview"]).content == file
    part = HTTP.get(page + clip["preview"], headers={"Range": "bytes=-5"})
    assert (part.status_code, part.content) == (206, file[-5:])
    poster = HTTP.get(page + clip["poster"])
    assert poster.headers["content-type"] == "image/jpeg"
    assert Image.open(io.BytesIO(poster.content)).size == (clip["width"], clip["height"])
    for name in ("nothing", "..", "%2e%2e%2f%2e%2e%2fREADME.md"):
        assert HTTP.get(f"{page}clips/{name}/video").status_code == 404


def test_a_session_reads_a_clip_by_its_name(server: RunningServer) -> None:
    with server.connect() as client:
        client.send("input_source.open", url="clip:hiding")
        assert client.receive("input_source.opened")["url"] == "clip:hiding"


def test_missing_clips_are_rendered_and_existing_ones_kept(tmp_path: Path) -> None:
    rendered: list[str] = []

    def write(path: Path, recipe: ClipRecipe) -> None:
        rendered.append(path.name)
        path.write_bytes(b"")

    folder = tmp_path / "new" / "clips"
    assert ensure_clips(folder, write) == [clip_path(folder, recipe) for recipe in RECIPES]
    assert len(rendered) == len(RECIPES)
    clip_path(folder, RECIPES[1]).unlink()
    ensure_clips(folder, write)
    assert rendered[len(RECIPES) :] == [f"{RECIPES[1].name}.mp4"]


def test_a_server_can_stop_while_clips_are_rendered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    started, released = threading.Event(), threading.Event()
    threads, failures = list[threading.Thread](), list[threading.ExceptHookArgs]()

    def render(path: Path, recipe: ClipRecipe) -> None:
        threads.append(threading.current_thread())
        started.set()
        released.wait(30)

    monkeypatch.setattr(threading, "excepthook", failures.append)
    clips = SampleClips(tmp_path, render=render)

    async def stop_early() -> None:
        loading = asyncio.create_task(clips.all())
        assert await asyncio.to_thread(started.wait, 30)
        loading.cancel()
        with pytest.raises(asyncio.CancelledError):
            await loading

    asyncio.run(stop_early())
    released.set()
    threads[0].join(30)
    assert not threads[0].is_alive()
    assert [failure for failure in failures if failure.thread is threads[0]] == []


def test_equal_recipes_give_equal_clips(tmp_path: Path) -> None:
    recipe = ClipRecipe("short", "", "", "narrate", "", seed=1, seconds=3.0)
    for name in ("a.mp4", "b.mp4"):
        render_clip(tmp_path / name, recipe)
    assert (tmp_path / "a.mp4").read_bytes() == (tmp_path / "b.mp4").read_bytes()


def test_a_folder_that_cannot_be_written_is_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    blocked = tmp_path / "file"
    blocked.write_bytes(b"")
    monkeypatch.setattr(sample_clips, "RECIPES", RECIPES[:1])
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache" / "arrivals.mp4").write_bytes((CLIPS / "arrivals.mp4").read_bytes())
    clips = sample_clips.SampleClips(blocked, tmp_path / "cache")
    assert clips.find_path("arrivals").parent == tmp_path / "cache"


ANSWERING_KINDS: dict[str, tuple[str, ...]] = {
    "arrivals": ("enter", "leave", "touch", "move"),
    "hiding": ("move", "hide", "reveal"),
    "touching": ("touch",),
    "colours": ("turn",),
}
"""The kinds of events that answer the query of a clip."""


@pytest.mark.parametrize("name", ["touching"])
def test_nano_answers_the_query_of_a_clip(name: str, nano: LoadedModel) -> None:
    check_answers(name, nano)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["arrivals", "hiding", "colours"])
def test_nano_answers_the_queries_of_the_other_clips(name: str, nano: LoadedModel) -> None:
    check_answers(name, nano)


def check_answers(name: str, nano: LoadedModel) -> None:
    """Compare the answers with the events of the scene."""
    recipe = next(recipe for recipe in RECIPES if recipe.name == name)
    (result,) = pipeline("ask", nano)(clip_path(CLIPS, recipe), recipe.query)
    assert result.output is not None
    expected = events_of(recipe, ANSWERING_KINDS[name])
    assert [answer.text for answer in result.output.answers] == [event.text for event in expected]
    for answer, event in zip(result.output.answers, expected, strict=True):
        assert event.start <= answer.start <= event.end + LATEST_SECONDS


def events_of(recipe: ClipRecipe, kinds: tuple[str, ...]) -> list[Event]:
    """Return the events that answer the query of a clip."""
    scene = generate_scene(np.random.default_rng(recipe.seed), recipe.seconds)
    subject = "blue square" if recipe.name == "hiding" else ""
    return [event for event in scene.events if event.kind in kinds and subject in event.subject]


@pytest.mark.slow
def test_nano_finds_the_triangle(nano: LoadedModel) -> None:
    recipe = next(recipe for recipe in RECIPES if recipe.name == "search")
    (result,) = pipeline("ground", nano)(clip_path(CLIPS, recipe), recipe.query)
    assert result.output is not None
    (span,) = result.output.spans
    assert (span.start, span.end) == (0.0, pytest.approx(12.9, abs=0.5))
