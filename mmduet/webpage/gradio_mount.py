"""Mounts the Gradio layout of the live page, with what the page's scripts know from the beginning."""

from __future__ import annotations

import json
from typing import Any

from fastapi import FastAPI

import mmduet
from mmduet.errors import OptionError
from mmduet.server.config import ServerConfig
from mmduet.server.session_manager import SessionManager
from mmduet.webpage.presets import PRESETS

HEAD = """
<script id="mmduet-config" type="application/json">{config}</script>
<link rel="icon" href="static/icon.svg">
<link rel="stylesheet" href="static/page.css">
<script type="module" src="static/page.js"></script>
"""


def mount_gradio(app: FastAPI, path: str, *, key_required: bool) -> None:
    """Mount the layout at ``path``. Raises ``OptionError`` if Gradio is not installed."""
    manager: SessionManager = app.state.manager
    try:
        import gradio as gr

        from mmduet.webpage.layout import PageDefaults, build_layout
    except ImportError as error:
        raise OptionError(f"the live page needs Gradio ({error}); install mmduet[demo]") from None
    query = manager.engine.model_config.recommended.query or PRESETS[0].query
    defaults = PageDefaults(manager.default_settings().to_wire(), query, tuple(sorted(manager.config.adapters)))
    config = page_config(manager, key_required=key_required)
    gr.mount_gradio_app(
        app,
        build_layout(defaults),
        path,
        footer_links=[],
        run_history=False,
        ssr_mode=False,
        show_error=False,
        enable_monitoring=False,
        pwa=False,
        mcp_server=False,
        theme=_create_theme(),
        head=HEAD.format(config=_json_for_html(config)),
    )


def _create_theme() -> Any:
    """Return a theme with the fonts of the system, and with text that has the contrast of WCAG's level AA."""
    import gradio as gr

    theme = gr.themes.Default(
        primary_hue="blue", font=["system-ui", "sans-serif"], font_mono=["ui-monospace", "monospace"]
    )
    return theme.set(
        body_text_color_subdued="*neutral_600",
        body_text_color_subdued_dark="*neutral_300",
        block_label_text_color="*neutral_700",
        block_label_text_color_dark="*neutral_200",
        block_title_text_color="*neutral_700",
        block_title_text_color_dark="*neutral_200",
        input_placeholder_color="*neutral_600",
        input_placeholder_color_dark="*neutral_300",
        checkbox_label_text_color="*neutral_800",
        checkbox_label_text_color_dark="*neutral_100",
    )


def page_config(manager: SessionManager, *, key_required: bool) -> dict[str, Any]:
    """Return what the page's scripts know from the beginning. It is public."""
    config: ServerConfig = manager.config
    return {
        "version": mmduet.__version__,
        "model": manager.model_name,
        "settings": manager.default_settings().to_wire(),
        "presets": [preset.to_dict() for preset in PRESETS],
        "access": "open" if not key_required else "public" if config.public else "key",
        "allows_addresses": bool(config.pull_hosts),
        "max_upload_bytes": config.max_upload_bytes,
        "max_upload_seconds": config.max_upload_seconds,
        "upload_lifetime_s": config.upload_lifetime,
    }


def _json_for_html(value: Any) -> str:
    """Return JSON that may stand in a ``script`` element."""
    return json.dumps(value).replace("<", "\\u003c")
