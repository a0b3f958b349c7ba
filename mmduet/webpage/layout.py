"""The layout of the live page in Gradio. Its controls call functions of ``static/page.js``; no Python runs for a visitor."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import gradio as gr

from mmduet.webpage.presets import HEADS, POLICIES, PRESETS

Controls = dict[str, Any]
"""Controls, Gradio components, by the names under which ``page.js`` knows their values."""

SOURCE_TABS = (
    ("clips", "Sample clips"),
    ("playground", "Playground"),
    ("camera", "Camera"),
    ("screen", "Screen"),
    ("upload", "Upload"),
    ("stream", "Stream address"),
)
TASKS = (
    ("Captions with times", "caption"),
    ("When is it? (grounding)", "ground"),
    ("Highlights", "highlight"),
    ("Answer a question", "ask"),
)


@dataclass(frozen=True)
class PageDefaults:
    """What the controls show at first: the session settings of the model, and the adapters of the server."""

    settings: dict[str, Any]
    query: str
    adapters: tuple[str, ...] = ()


def build_layout(defaults: PageDefaults) -> gr.Blocks:
    """Return the page."""
    page = gr.Blocks(title="mmduet: a video model that decides when to speak", analytics_enabled=False)
    with page:
        _add_part("header")
        with gr.Tabs():
            with gr.Tab("Live", id="live"):
                _build_live_tab(defaults)
            with gr.Tab("Wall", id="wall"):
                _add_part("wall")
            with gr.Tab("Finished results", id="results"):
                _build_results_tab()
        _add_part("footer")
    return page


def _add_part(name: str) -> None:
    """Add an empty element, which ``page.js`` fills."""
    gr.HTML(f'<div id="mmduet-{name}" class="mmduet-part"></div>', apply_default_css=False)


def _build_live_tab(defaults: PageDefaults) -> None:
    with gr.Row(elem_id="mmduet-start"):
        with gr.Column(scale=3, min_width=320):
            _build_sources()
        with gr.Column(scale=2, min_width=300):
            controls = _build_question(defaults)
    _add_part("view")
    with gr.Row(elem_id="mmduet-settings"):
        with gr.Column(min_width=300), gr.Accordion("When to speak", open=False):
            controls |= _build_speak_controls(defaults.settings["duet"]["speak"])
        with gr.Column(min_width=300), gr.Accordion("How to watch (from the next start on)", open=False):
            controls |= _build_session_controls(defaults)
    _connect(controls)


def _build_sources() -> None:
    with gr.Tabs(elem_id="mmduet-sources"):
        for name, label in SOURCE_TABS:
            with gr.Tab(label, id=name, render_children=True):
                _add_part(f"source-{name}")


def _build_question(defaults: PageDefaults) -> Controls:
    preset = gr.Radio(
        [(item.label, item.name) for item in PRESETS], value=PRESETS[0].name, label="What should the model do? (task)"
    )
    query = gr.Textbox(defaults.query, label="Question or instruction (query)", lines=1, max_lines=4)
    return {"preset": preset, "query": query}


def _build_speak_controls(speak: dict[str, Any]) -> Controls:
    return {
        "policy": gr.Dropdown(list(POLICIES), value=speak["policy"], label="Speaks unprompted (speak policy)"),
        "value": gr.Slider(
            0, 2, speak["value"], step=0.01, label="Score needed to speak (threshold); the line in the curve"
        ),
        "heads": gr.CheckboxGroup(list(HEADS), value=list(speak["heads"]), label="Scores that count (heads)"),
        "min_interval": gr.Slider(
            0, 30, speak["min_interval"], step=0.5, label="Seconds between two replies, at least (min_interval)"
        ),
        "repeat_window": gr.Slider(
            0, 60, speak["repeat_window"], step=1, label="Seconds in which a reply is not repeated (repeat_window)"
        ),
        "unasked": gr.Checkbox(speak["unasked"], label="May speak before the first question (unasked)"),
    }


def _build_session_controls(defaults: PageDefaults) -> Controls:
    duet = defaults.settings["duet"]
    controls: Controls = {
        "fps": gr.Slider(0.5, 8, duet["fps"] or 2.0, step=0.5, label="Frames per second that the model sees (fps)"),
        "window": gr.Slider(
            4, 64, duet["window"] or 64, step=1, label="Frames that it remembers (window of the KV cache)"
        ),
        "keep_replies": gr.Checkbox(duet["keep_replies"], label="Remembers its own replies (keep_replies)"),
    }
    if defaults.adapters:
        choices = [("none", "")] + [(name, name) for name in defaults.adapters]
        controls["adapter"] = gr.Dropdown(choices, value="", label="Variant of the model (LoRA adapter)")
    return controls


def _build_results_tab() -> None:
    _add_part("results-video")
    with gr.Row():
        task = gr.Radio([*TASKS], value="caption", label="Result")
        query = gr.Textbox(
            "", label="Question (for grounding and answers)", placeholder="When is something red in view?"
        )
    with gr.Row():
        run = gr.Button("Compute", variant="primary", elem_id="mmduet-run-task")
        stop = gr.Button("Stop", elem_id="mmduet-stop-task")
    _add_part("results")
    run.click(None, [task, query], None, js="(task, query) => window.mmduetPage?.runTask(task, query)")
    stop.click(None, None, None, js="() => window.mmduetPage?.stopTask()")


def _connect(controls: Controls) -> None:
    """Connect the controls with the page's scripts in both directions. ``mmduetPage`` exists once the visitor has access."""
    names, components = list(controls), list(controls.values())
    collect = f"(...values) => window.mmduetPage?.onControls({names!r}, values)"
    for component in components:
        change = component.input if hasattr(component, "input") else component.change
        change(None, components, None, js=collect)
    controls["preset"].input(
        None, components, components, js=f"(...values) => window.mmduetPage?.applyPreset({names!r}, values) ?? values"
    )
    bridge = gr.HTML("", visible="hidden", elem_id="mmduet-bridge", js_on_load=BRIDGE)
    bridge.change(
        None, components, components, js=f"(...values) => window.mmduetPage?.takeSettings({names!r}, values) ?? values"
    )


BRIDGE = """
window.addEventListener("mmduet:settings", () => trigger("change"));
"""
"""Lets the page's scripts set controls, for example after the threshold line was dragged."""
