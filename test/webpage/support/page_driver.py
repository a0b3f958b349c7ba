"""Operates the live page in a browser as a visitor does, and reads what it shows."""

from __future__ import annotations

import re
import shutil
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

from playwright.sync_api import (
    Browser,
    BrowserContext,
    ConsoleMessage,
    Error,
    Locator,
    Page,
    Playwright,
    Request,
    sync_playwright,
)

Source = Literal["Sample clips", "Playground", "Camera", "Screen", "Upload", "Stream address"]
Tab = Literal["Live", "Wall", "Finished results"]
CHROMIUM_ARGUMENTS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
    "--use-fake-ui-for-media-stream",
    "--use-fake-device-for-media-stream",
    "--auto-select-desktop-capture-source=Entire screen",
    "--disable-features=LocalNetworkAccessChecks",  # for pages that a test serves itself, which use a server
    "--autoplay-policy=no-user-gesture-required",
)
VIEWPORT = {"width": 1280, "height": 900}
RUNNING = ("live", "paused")
OVER = ("idle", "ended", "failed")


def start_chromium(driver: Playwright, camera: Path | None = None) -> Browser:
    """Start Debian's Chromium without a window. Its camera shows the video ``camera`` (.y4m or .mjpeg), or a test pattern.

    Raises ``RuntimeError`` if no Chromium is installed.
    """
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    if chromium is None:
        raise RuntimeError("no browser is installed; run: apt-get install chromium")
    arguments = [*CHROMIUM_ARGUMENTS, *([] if camera is None else [f"--use-file-for-fake-video-capture={camera}"])]
    return driver.chromium.launch(executable_path=chromium, args=arguments)


@contextmanager
def open_chromium(camera: Path | None = None) -> Iterator[Browser]:
    """Run Chromium until the block ends, as ``start_chromium`` starts it."""
    with sync_playwright() as driver:
        browser = start_chromium(driver, camera)
        try:
            yield browser
        finally:
            browser.close()


@contextmanager
def open_tab(browser: Browser, url: str, **context: Any) -> Iterator[PageDriver]:
    """Open the page at ``url`` for a new visitor and wait until it can be used; ``context`` are options of Playwright's."""
    with new_context(browser, **context) as private, open_tab_in(private, url) as visitor:
        yield visitor


@contextmanager
def new_context(browser: Browser, **context: Any) -> Iterator[BrowserContext]:
    """Yield a context, whose tabs share the cache; ``context`` are options of Playwright's."""
    created = browser.new_context(**{"viewport": VIEWPORT, **context})
    try:
        yield created
    finally:
        created.close()


@contextmanager
def open_tab_in(context: BrowserContext, url: str) -> Iterator[PageDriver]:
    """Open the page at ``url`` for a new visitor, which every tab is, and wait until it can be used."""
    visitor = PageDriver(context, url)
    try:
        visitor.open()
        visitor.wait_until_ready()
        yield visitor
    finally:
        visitor.page.close()


class PageDriver:
    """A visitor with one tab, which has the live page of a server. Waiting methods raise Playwright's ``TimeoutError``.

    ``problems`` counts what went wrong: console errors, uncaught exceptions, requests that failed or that the server rejected,
    errors of the session, and crashes. ``aborted`` counts requests that the browser gave up, as it does with videos.
    """

    def __init__(self, context: BrowserContext, url: str, timeout: float = 30.0) -> None:
        """``url`` is the address of the page, ``timeout`` limits every wait, in seconds."""
        self.context, self.url, self.timeout = context, url, timeout
        self.problems: Counter[str] = Counter()
        self.aborted = 0
        self.page: Page = context.new_page()
        self.page.set_default_timeout(1000 * timeout)
        self._listen()

    def _listen(self) -> None:
        page = self.page
        page.on("console", self._on_console)
        page.on("pageerror", lambda error: self._add_problem("exception", str(error)))
        page.on("crash", lambda _: self._add_problem("crash", "the tab has crashed"))
        page.on("requestfailed", self._on_failed_request)
        page.on(
            "response",
            lambda r: r.status >= 400 and self._add_problem("response", f"{r.status} {r.request.method} {r.url}"),
        )

    def _on_console(self, message: ConsoleMessage) -> None:
        if message.type == "error":
            self._add_problem("console", f"{message.text} ({message.location['url']})")

    def _on_failed_request(self, request: Request) -> None:
        if request.failure is not None and "ERR_ABORTED" in request.failure:
            self.aborted += 1
        else:
            self._add_problem("request", f"{request.failure} {request.method} {request.url}")

    def _add_problem(self, kind: str, text: str) -> None:
        if "/favicon.ico" in text:
            return  # browsers ask for it at the root of the host, which behind a proxy is not the server's
        without_ids = re.sub(r"(?<=/)[\w-]{20,}|(?<=:)\d{4,5}(?=/)", "…", text)
        self.problems[f"{kind}: {without_ids[:300]}"] += 1

    # Opening and leaving

    def open(self) -> None:
        """Open the page without waiting for it."""
        self.page.goto(self.url, wait_until="commit")

    @property
    def is_ready(self) -> bool:
        """Whether the page can be used."""
        return bool(
            self.page.evaluate("Boolean(window.mmduetPage && document.querySelector('mmduet-live')?.isConnected)")
        )

    def wait_until_ready(self) -> None:
        """Wait until the page can be used."""
        self.page.wait_for_function("window.mmduetPage && document.querySelector('mmduet-live')?.isConnected")

    def leave(self) -> None:
        """Go to another page, as a visitor does; the page can close its session and delete its uploads."""
        self.page.goto("about:blank")

    def close(self) -> None:
        """Close the tab."""
        self.context.close()

    # Sources

    def select_tab(self, name: Tab | Source) -> None:
        """Select one of the page's tabs, or one of its sources."""
        tab = self.page.get_by_role("tab", name=name, exact=True)
        if tab.count() == 0:  # on a narrow page, tabs that do not fit are in a menu
            menu = self.page.locator(".overflow-menu").filter(has_text=name)
            menu.get_by_role("button", name="More tabs").click()
            menu.get_by_role("button", name=name, exact=True).click()
        elif tab.get_attribute("aria-selected") != "true":
            tab.click()

    def start_clip(self, index: int = 0) -> None:
        """Start the sample clip with this index."""
        self.select_tab("Sample clips")
        self.page.locator(".mmduet-card").nth(index).click()

    def start_camera(self) -> None:
        """Start the camera."""
        self.select_tab("Camera")
        self.page.get_by_role("button", name="Start the camera").click()

    def start_playground(self) -> None:
        """Open the playground."""
        self.select_tab("Playground")
        self.page.get_by_role("button", name="Open the playground").click()

    def upload(self, file: Path) -> None:
        """Upload a video. The page starts it when the server has checked it."""
        self.select_tab("Upload")
        self.page.locator("#mmduet-file").set_input_files(file)

    @property
    def upload_status(self) -> str:
        """What the page shows about the last upload."""
        return self.page.locator(".mmduet-drop [role=status]").first.inner_text()

    # The session

    def press(self, button: Literal["Pause", "Resume", "Stop", "Restart"]) -> None:
        """Press a button of the live view."""
        self.view.get_by_role("button", name=button, exact=True).click()

    def ask(self, text: str) -> None:
        """Ask a question in the conversation."""
        self.view.locator("mmduet-conversation :is(textarea, input)").first.fill(text)
        self.view.locator("mmduet-conversation :is(textarea, input)").first.press("Enter")

    def drag_threshold(self, share: float) -> None:
        """Drag the threshold line of the curve by ``share`` of the curve's height; positive values lower it."""
        handle = self.view.locator("mmduet-curve [role=slider][aria-label=Threshold]")
        handle.hover()
        box, curve = handle.bounding_box(), self.view.locator("mmduet-curve canvas").bounding_box()
        if box is None or curve is None:
            raise Error("the curve has disappeared")
        x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
        self.page.mouse.move(x, y)
        self.page.mouse.down()
        self.page.mouse.move(x, y + share * curve["height"], steps=4)
        self.page.mouse.up()

    @property
    def view(self) -> Locator:
        """The live view."""
        return self.page.locator("mmduet-live")

    @property
    def state(self) -> str:
        """State of the session: idle, queued, connecting, live, paused, retrying, ended or failed."""
        return str(self.page.evaluate("window.mmduetPage.view.state"))

    def wait_for_state(self, *states: str) -> str:
        """Wait for one of the states, and return it."""
        script = "(states) => { const { state } = window.mmduetPage.view; return states.includes(state) && state; }"
        return str(self.page.wait_for_function(script, arg=list(states)).json_value())

    def wait_for_event(self, condition: str) -> dict[str, Any]:
        """Wait for an event ``e`` of the session for which a JavaScript condition holds, and return it."""
        script = f"() => window.mmduetPage.view.log.events.find((e) => {condition})"
        found: dict[str, Any] = self.page.wait_for_function(script).json_value()
        return found

    def events(self, kind: str) -> list[dict[str, Any]]:
        """Return the events of one type so far."""
        script = "(kind) => window.mmduetPage.view.log.events.filter((e) => e.type === kind)"
        found: list[dict[str, Any]] = self.page.evaluate(script, kind)
        return found

    # Controls and results

    def set_control(self, label: str, value: bool | float | str) -> None:
        """Set a check box, a slider or a text; ``label`` is its label or a part of it."""
        self.open_accordions()
        if isinstance(value, bool):
            self.page.get_by_role("checkbox", name=label).set_checked(value)
        elif isinstance(value, str):
            self.page.get_by_label(label).fill(value)
        else:
            number = self.page.get_by_label(re.compile(f"number input for .*{re.escape(label)}"))
            number.fill(str(value))
            number.press("Tab")

    def choose(self, option: str, control: str | None = None) -> None:
        """Choose the option with a label: a radio button, or an entry of the drop-down list ``control``."""
        if control is None:
            self.page.get_by_role("radio", name=option).check()
            return
        self.open_accordions()
        self.page.get_by_role("combobox", name=control).click()
        self.page.get_by_role("option", name=option).click()

    def open_accordions(self) -> None:
        """Show all controls."""
        closed = self.page.locator("button.label-wrap:not(.open)")
        for _ in range(closed.count()):
            closed.first.click()

    def run_task(self, task: str, query: str = "") -> None:
        """Start to compute a finished result of the video that is chosen on that tab; ``task`` is the label of its kind."""
        self.select_tab("Finished results")
        self.choose(task)
        if query:
            self.page.get_by_label("Question (for grounding and answers)").fill(query)
        self.page.locator("#mmduet-run-task").click()

    @property
    def task_status(self) -> str:
        """What the page shows about the finished result: ``Done.`` at the end."""
        return self.page.locator("#mmduet-results [role=status]").inner_text()
