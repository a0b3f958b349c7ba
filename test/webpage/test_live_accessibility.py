"""Accessibility of the live view: no serious finding of axe-core, usable at phone width."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from live_page import open_live_page, run_live_server, write_scene
from playwright.sync_api import Browser

from mmduet.model import load_model


@pytest.mark.slow
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 360])
def test_components_have_no_serious_finding(browser: Browser, tmp_path: Path, scheme: str, width: int) -> None:
    clips = {"clip": write_scene(tmp_path / "clip.mp4", 5, 6.0)}
    context: dict[str, Any] = {"viewport": {"width": width, "height": 800}, "color_scheme": scheme}
    with (
        run_live_server(clips, load_model("nano")) as server,
        open_live_page(browser, server, show="live,wall", **context) as live,
    ):
        live.page.evaluate(
            "(s) => { document.querySelector('mmduet-wall').start([s, s]); }", live.source("clip", speed=4)
        )
        live.start(live.source("clip", speed=4))
        live.wait_for_state("ended")
        live.page.get_by_role("button", name="Export").click()
        live.page.locator("mmduet-conversation li.reply").first.get_by_role("button").click()
        findings = Axe().run(live.page).response["violations"]
        assert live.page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    assert [finding["id"] for finding in findings if finding["impact"] in ("serious", "critical")] == []
