"""The live page in a real browser: what a visitor does with clips, controls, questions, results and other tabs."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
from axe_playwright_python.sync_playwright import Axe
from live_server import RunningServer
from page_driver import PageDriver, new_context, open_tab, open_tab_in
from page_server import run_page_server
from playwright.sync_api import Browser, BrowserContext, expect

from mmduet.model import load_model

SESSION = "window.mmduetPage.view.session.created"
SERIOUS = ("serious", "critical")


@pytest.fixture(scope="module")
def server() -> Iterator[RunningServer]:
    with run_page_server(load_model("nano")) as running:
        yield running


def page_url(server: RunningServer) -> str:
    return f"{server.http}/page/"


@pytest.fixture(scope="module")
def context(browser: Browser) -> Iterator[BrowserContext]:
    """The context of the tabs, which share its cache."""
    with new_context(browser) as shared:
        yield shared


@pytest.fixture
def tab(context: BrowserContext, server: RunningServer) -> Iterator[PageDriver]:
    """A visitor with the page, who has seen no error at the end."""
    with open_tab_in(context, page_url(server)) as visitor:
        yield visitor
        assert not visitor.problems


def test_page_loads_from_its_server_alone(browser: Browser, server: RunningServer) -> None:
    visitor = PageDriver(browser.new_context(), server.http)  # also without a path
    requests: list[str] = []
    visitor.page.on("request", lambda request: requests.append(request.url))
    visitor.open()
    visitor.wait_until_ready()
    expect(visitor.page.locator(".mmduet-card")).to_have_count(5)
    assert visitor.page.url == page_url(server)
    visitor.close()
    assert f"{server.http}/" in requests
    outside = [url for url in requests if not url.startswith((server.http, "data:", "blob:"))]
    assert (outside, dict(visitor.problems)) == ([], {})


def test_clip_is_narrated_and_questions_are_answered(tab: PageDriver) -> None:
    tab.view.get_by_label("Speed").select_option(value="2")
    tab.start_clip(0)
    reply = tab.wait_for_event("e.type === 'response.output_text.done'")
    expect(tab.view.get_by_text(reply["text"]).first).to_be_visible()
    tab.press("Pause")
    tab.wait_for_state("paused")
    tab.ask("Tell me when something touches something.")
    tab.press("Resume")
    answer = tab.wait_for_event("e.type === 'response.output_text.done' && e.text.includes('touches')")
    assert answer["text"] == "the red triangle touches the purple triangle"
    tab.press("Stop")
    tab.wait_for_state("ended")
    tab.press("Restart")
    tab.wait_for_state("live")


def test_clip_brings_its_question_and_settings(tab: PageDriver) -> None:
    tab.start_clip(4)
    tab.wait_for_state("live")
    query = tab.page.get_by_label("Question or instruction (query)")
    expect(query).to_have_value("When is the orange triangle in view?")
    expect(tab.page.get_by_role("radio", name="Find moments")).to_be_checked()
    assert tab.page.evaluate("window.mmduetPage.view.session.created.duet.speak.policy") == "never"


def test_controls_change_the_running_session_and_the_other_way_round(tab: PageDriver) -> None:
    tab.start_clip(0)
    tab.wait_for_state("live")
    threshold = tab.page.get_by_label(re.compile("number input for Score needed"))
    tab.set_control("Score needed to speak", 0.8)
    tab.wait_for_event("e.type === 'session.updated' && e.session.duet.speak.value === 0.8")
    tab.drag_threshold(0.25)
    updated = tab.wait_for_event("e.type === 'session.updated' && e.session.duet.speak.value < 0.79")
    assert updated["session"]["duet"]["speak"]["value"] < 0.79
    control, line = threshold.element_handle(), "window.mmduetPage.view.parts.curve.policy.settings.value"
    confirmed = "window.mmduetPage.view.session.created.duet.speak.value"
    tab.page.wait_for_function(
        f"(control) => Number(control.value) === {line} && {line} === {confirmed} && {line} < 0.79", arg=control
    )


def test_threshold_decides_whether_the_model_speaks(tab: PageDriver) -> None:
    tab.set_control("Score needed to speak", 1.5)  # above what one head can reach
    tab.page.evaluate("window.mmduetPage.view.setSpeed(null)")
    tab.page.evaluate("window.mmduetPage.start({kind: 'clip', url: 'clip:arrivals', preview: 'clips/arrivals/video'})")
    tab.wait_for_state("ended")
    assert len(tab.events("input_frame.scored")) == 60
    assert tab.events("response.created") == []


def test_presets_fill_the_controls(tab: PageDriver) -> None:
    tab.choose("Tell me when …")
    query = tab.page.get_by_label("Question or instruction (query)")
    expect(query).to_have_value("Tell me when something touches something.")
    tab.choose("Highlights")
    expect(query).to_have_value("Narrate the scene.")
    tab.open_accordions()
    expect(tab.page.get_by_role("checkbox", name=re.compile("Matters to my question"))).to_be_checked()


def test_captions_of_a_clip_are_finished_results(tab: PageDriver) -> None:
    tab.run_task("Captions with times")
    expect(tab.page.locator("#mmduet-results [role=status]")).to_have_text("Done.", timeout=30_000)
    expect(tab.page.locator("#mmduet-results td").nth(2)).to_have_text("a small purple triangle enters from the top")
    with tab.page.expect_download() as download:
        tab.page.get_by_role("link", name="Download subtitles").click()
    assert download.value.path().read_text().startswith("WEBVTT")


@pytest.mark.slow
def test_tasks_are_replaced_stopped_and_ended_with_the_page(tab: PageDriver) -> None:
    tab.run_task("Captions with times")
    tab.page.evaluate("window.mmduetPage.runTask('highlight', ''), window.mmduetPage.stopTask()")
    expect(tab.page.locator("#mmduet-results [role=status]")).to_have_text("Stopped.")
    tab.run_task("Captions with times")
    tab.page.wait_for_function("window.mmduetPage.results.running")
    tab.page.reload()
    tab.wait_until_ready()
    tab.run_task("Captions with times")  # the server runs one task for each visitor
    expect(tab.page.locator("#mmduet-results [role=status]")).to_have_text("Done.", timeout=30_000)


@pytest.mark.slow
def test_two_visitors_do_not_disturb_each_other(browser: Browser, server: RunningServer) -> None:
    with open_tab(browser, page_url(server)) as one, open_tab(browser, page_url(server)) as other:
        one.start_clip(0)
        other.start_clip(2)
        one.wait_for_state("live")
        other.wait_for_state("live")
        owners = {session.owner for session in server.manager.sessions}
        assert len(owners) == 2
        for visitor, value in ((one, 0.3), (other, 0.7)):
            visitor.set_control("Score needed to speak", value)
            visitor.wait_for_event(f"e.type === 'session.updated' && e.session.duet.speak.value === {value}")
        one.wait_for_event("e.type === 'response.output_text.done'")
        other.wait_for_event("e.type === 'response.output_text.done'")
        assert [visitor.page.evaluate(f"{SESSION}.duet.speak.value") for visitor in (one, other)] == [0.3, 0.7]
        first, second = identifiers(one), identifiers(other)
        assert first["sessions"].isdisjoint(second["sessions"])
        assert first["responses"].isdisjoint(second["responses"])
        assert not one.problems + other.problems


def identifiers(visitor: PageDriver) -> dict[str, set[str]]:
    """Return the sessions and responses of which a visitor has received events."""
    created = visitor.events("session.created") + visitor.events("session.updated")
    return {
        "sessions": {event["session"]["id"] for event in created},
        "responses": {event["response"]["id"] for event in visitor.events("response.created")},
    }


@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), pytest.param(360, "dark", marks=pytest.mark.slow)])
def test_no_serious_finding_of_axe(browser: Browser, server: RunningServer, width: int, scheme: str) -> None:
    with open_tab(browser, page_url(server), viewport={"width": width, "height": 900}, color_scheme=scheme) as visitor:
        visitor.start_clip(0)
        visitor.wait_for_event("e.type === 'response.output_text.done'")
        visitor.open_accordions()
        assert serious_findings(visitor) == set()
        assert visitor.page.evaluate("document.documentElement.scrollWidth") <= width


@pytest.mark.slow
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_other_tabs_and_dialogs_have_no_serious_finding(browser: Browser, server: RunningServer, scheme: str) -> None:
    with open_tab(browser, page_url(server), color_scheme=scheme) as visitor:
        visitor.run_task("Captions with times")
        expect(visitor.page.locator("#mmduet-results [role=status]")).to_have_text("Done.", timeout=30_000)
        assert serious_findings(visitor) == set()
        visitor.select_tab("Wall")
        visitor.page.get_by_role("button", name="4 streams").click()
        visitor.page.wait_for_function("window.mmduetPage.wall.tiles.every((tile) => tile.live.lastTime > 1)")
        assert serious_findings(visitor) == set()
    with run_page_server(load_model("nano"), keys="s3cret") as protected:
        visitor = PageDriver(browser.new_context(color_scheme=scheme), page_url(protected))
        visitor.open()
        expect(visitor.page.get_by_label("Access key (API key)")).to_be_visible()
        assert serious_findings(visitor) == set()
        visitor.close()


def serious_findings(visitor: PageDriver) -> set[str]:
    """Return what axe-core finds on the page and rates as serious or critical."""
    return {
        f"{rule['id']}: {node['target']} {node.get('failureSummary', '')}"
        for rule in Axe().run(visitor.page).response["violations"]
        if rule["impact"] in SERIOUS
        for node in rule["nodes"]
    }
