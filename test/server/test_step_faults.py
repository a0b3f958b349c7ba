"""A step that fails ends at most the sessions that cause it; the server survives and logs the error."""

from __future__ import annotations

import logging
import threading

import httpx2
import pytest
from captured_logs import log_lines
from duet_rig import lively_model
from live_server import run_test_server

from mmduet.model import LoadedModel


def model_short_of_memory(short: threading.Event) -> LoadedModel:
    """Return a model whose steps fail for lack of memory while ``short`` is set."""
    model = lively_model()

    def check(*_: object) -> None:
        if short.is_set():
            raise MemoryError

    model.network.heads.register_forward_pre_hook(check)
    return model


def test_a_server_survives_a_lack_of_memory(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, logger="mmduet")
    short = threading.Event()
    with run_test_server(model_short_of_memory(short)) as server, server.connect() as client, server.connect() as idle:
        client.receive("session.created")
        short.set()
        client.send_frames(1)
        error = client.receive("error")["error"]
        assert error["code"] == "no_capacity"
        assert client.receive("session.closed")
        short.clear()
        assert httpx2.get(f"{server.http}/health").status_code == 200
        idle.receive("session.created")
        idle.send_frames(2)
        assert [event["type"] for event in idle.end_stream()].count("input_frame.scored") == 2
    line = log_lines(caplog, "step_failed")[0]
    assert (line["sessions"], line["sessions_ended"]) == (1, 1)
    assert "MemoryError" in line["error"]
