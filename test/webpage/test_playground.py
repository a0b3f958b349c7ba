"""The playground in a real browser: what pointers and keys do, what it reports, and that nano narrates it."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from measure_playground import answer_request, run_sequence
from page_server import run_page_server
from playwright.sync_api import Browser, Page

from mmduet.model import load_model

ROOT = Path(__file__).resolve().parents[2]
PAGE = "http://127.0.0.1:9/playground-test/index.html"
PLAYGROUND = "document.querySelector('mmduet-playground')"


@contextmanager
def open_playground(browser: Browser) -> Iterator[Page]:
    """Open a page with a playground that streams to no server."""
    with browser.new_context(viewport={"width": 1000, "height": 760}) as context:
        page = context.new_page()
        page.route("**/playground-test/**", lambda route: answer_request(route, None, 3, ""))
        yield page


@pytest.fixture(scope="module")
def shared_page(browser: Browser) -> Iterator[Page]:
    """A playground whose clock only runs when a test lets it."""
    with open_playground(browser) as page:
        page.clock.install(time=0)
        page.goto(PAGE)
        page.clock.pause_at(1000)
        yield page


@pytest.fixture
def page(shared_page: Page) -> Page:
    """The shared playground with its first two shapes, a red square and a blue circle."""
    shared_page.evaluate(f"{PLAYGROUND}.reset()")
    shared_page.clock.run_for(100)
    return shared_page


def texts(page: Page, seconds: float = 3.0) -> list[str]:
    """Let time pass, and return the captions of all actions so far."""
    page.clock.run_for(round(seconds * 1000))
    return [action["text"] for action in page.evaluate(f"{PLAYGROUND}.actions")]


def shapes(page: Page) -> dict[str, dict[str, Any]]:
    """Return the shapes on the canvas by name."""
    return {shape["name"]: shape for shape in page.evaluate(f"{PLAYGROUND}.shapes")}


def status(page: Page) -> str:
    """Return the latest announcement."""
    return page.locator("mmduet-playground .status").inner_text()


def press(page: Page, *keys: str) -> None:
    """Press keys on the canvas."""
    for key in keys:
        page.locator("mmduet-playground .stage").press(key)


def point(page: Page, x: float, y: float) -> tuple[float, float]:
    """Return the position in the page of a point of the frame."""
    box = page.locator("mmduet-playground .stage").bounding_box()
    assert box is not None
    return box["x"] + x * box["width"], box["y"] + y * box["height"]


def drag(page: Page, start: tuple[float, float], end: tuple[float, float]) -> None:
    """Drag from one point of the page to another within .4 s."""
    page.mouse.move(*start)
    page.mouse.down()
    for step in range(1, 9):
        page.clock.run_for(50)
        page.mouse.move(*(a + step / 8 * (b - a) for a, b in zip(start, end, strict=True)))
    page.mouse.up()


def drag_shape(page: Page, name: str, x: float, y: float) -> None:
    """Drag a shape by its centre to a point of the frame."""
    shape = shapes(page)[name]
    drag(page, point(page, shape["x"], shape["y"]), point(page, x, y))


def test_nothing_moves_while_the_playground_is_hidden(page: Page) -> None:
    press(page, "c")
    page.evaluate(f"{PLAYGROUND}.hidden = true")
    assert texts(page) == []
    page.evaluate(f"{PLAYGROUND}.hidden = false")
    (text,) = texts(page)
    assert "turns" in text


def test_dragged_shape_moves_to_the_hand(page: Page) -> None:
    drag_shape(page, "blue circle", 0.72, 0.2)
    assert texts(page) == ["the blue circle moves up"]
    assert shapes(page)["blue circle"]["y"] == pytest.approx(0.2, abs=0.01)


def test_shape_hides_and_comes_out(page: Page) -> None:
    drag_shape(page, "blue circle", 0.32, 0.43)
    assert texts(page) == ["the blue circle hides behind the red square"]
    assert shapes(page)["blue circle"]["behind"] == "red square"
    drag_shape(page, "blue circle", 0.8, 0.8)
    assert texts(page)[1:] == ["the blue circle comes out from behind the red square"]


def test_shapes_stop_when_they_touch(page: Page) -> None:
    drag_shape(page, "red square", 0.6, 0.58)
    assert texts(page) == ["the red square touches the blue circle"]
    a, b = shapes(page)["red square"], shapes(page)["blue circle"]
    gap = ((a["x"] - b["x"]) ** 2 + (a["y"] - b["y"]) ** 2) ** 0.5
    assert gap == pytest.approx(0.8 * (0.19 + 0.115), abs=0.01)


def test_shape_that_is_dragged_out_leaves(page: Page) -> None:
    drag_shape(page, "red square", -0.02, 0.42)
    assert texts(page) == ["the red square leaves on the left"]
    assert list(shapes(page)) == ["blue circle"]


def test_new_shape_enters_from_the_side_of_the_hand(page: Page) -> None:
    page.locator("mmduet-playground .swatch", has=page.get_by_label("green", exact=True)).click()
    chip = page.locator("mmduet-playground .chip").nth(3)
    box = chip.bounding_box()
    assert box is not None
    drag(page, (box["x"] + 20, box["y"] + 20), point(page, 0.8, 0.25))
    assert texts(page) == ["a small green star enters from the right"]


def test_actions_are_carried_out_one_after_the_other(page: Page) -> None:
    press(page, "n", "c", "ArrowDown")
    assert len(texts(page, 6)) == 2
    first, second = page.evaluate(f"{PLAYGROUND}.actions")
    assert second["start"] - first["end"] >= 1.0


@pytest.mark.parametrize(
    ("keys", "kinds"),
    [
        (["n", "n", "ArrowUp"], ["move"]),
        (["n", "n", "Shift+ArrowUp"], ["leave"]),
        (["n", "n", "+"], ["grow"]),
        (["n", "-"], ["shrink"]),
        (["n", "t"], ["touch"]),
        (["n", "n", "h", "b"], ["hide", "reveal"]),
        (["n", "Delete"], ["leave"]),
        (["a"], ["enter"]),
    ],
)
def test_keys_do_everything_that_the_pointer_does(page: Page, keys: list[str], kinds: list[str]) -> None:
    press(page, *keys)
    found = texts(page, 3.0 * len(kinds))
    assert [action["kind"] for action in page.evaluate(f"{PLAYGROUND}.actions")] == kinds
    assert status(page) == found[-1]


def test_reason_is_announced_for_what_is_not_possible(page: Page) -> None:
    press(page, "a")
    texts(page)
    press(page, "a")
    assert "holds 3 shapes" in status(page)
    press(page, "n", "+")
    assert status(page) == "The red square is big already."


def test_taps_add_shapes_of_different_colours(page: Page) -> None:
    page.locator("mmduet-playground .swatch", has=page.get_by_label("purple", exact=True)).click()
    page.locator("mmduet-playground .chip").nth(0).click()
    assert " purple circle enters from the " in texts(page)[0]
    page.locator("mmduet-playground button[data-tool=leave]").click()
    texts(page)
    assert page.locator("mmduet-playground .chip").nth(0).get_attribute("aria-label") == "Add a white circle"


def test_empty_canvas_gets_a_shape(page: Page) -> None:
    page.locator("mmduet-playground button[data-tool=clear]").click()
    texts(page, 12)
    kinds = [action["kind"] for action in page.evaluate(f"{PLAYGROUND}.actions")]
    assert kinds == ["leave", "leave", "enter"]
    assert len(shapes(page)) == 1


def test_selection_and_hints_are_not_part_of_the_streamed_picture(page: Page) -> None:
    before = page.evaluate(f"{PLAYGROUND}.canvas.toDataURL()")
    press(page, "n")
    page.clock.run_for(100)
    assert shapes(page)["red square"]["isSelected"]
    assert page.evaluate(f"{PLAYGROUND}.canvas.toDataURL()") == before


def test_playground_is_accessible_and_fits_a_phone(browser: Browser) -> None:
    with open_playground(browser) as page:
        page.goto(PAGE)
        found = Axe().run(page).response["violations"]
        assert [v["id"] for v in found if v["impact"] in ("serious", "critical")] == []
        page.set_viewport_size({"width": 360, "height": 740})
        assert page.evaluate("document.documentElement.scrollWidth") <= 360


@pytest.mark.slow
def test_nano_narrates_a_visitor(browser: Browser) -> None:
    with run_page_server(load_model("nano")) as server:
        sequence = run_sequence(browser, server.url(), seed=3, actions=1, query="Narrate the scene.")
    assert sequence.actions
    assert {action["text"] for action in sequence.actions} <= {reply["text"] for reply in sequence.replies}


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_nano_narrates_thirty_visitors() -> None:
    command = [sys.executable, str(ROOT / "scripts/measure_playground.py"), "--sequences", "30", "--seed", "5000"]
    result = subprocess.run(
        command, capture_output=True, text=True, check=False, env={**os.environ, "PYTHONPATH": str(ROOT)}
    )
    assert result.returncode == 0, result.stdout + result.stderr
