"""``mmduet demo``: the server with its live page as a process of its own, and the launcher in ``demo/``."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import httpx2
import pytest
from command_line import Command

ROOT = Path(__file__).resolve().parents[2]


def start(*command: str, cwd: Path = ROOT) -> subprocess.Popen[str]:
    environment = {**os.environ, "BROWSER": "true", "PYTHONPATH": str(ROOT)}
    return subprocess.Popen(
        [sys.executable, "-m", *command, "--port", "0"], cwd=cwd, env=environment, stdout=subprocess.PIPE, text=True
    )


@pytest.mark.parametrize(
    "command",
    [
        pytest.param(("demo.app", "--no-open"), id="launcher"),
        pytest.param(("mmduet", "serve", "--page"), id="serve", marks=pytest.mark.slow),
    ],
)
def test_address_of_the_page_is_printed_and_serves_it(command: tuple[str, ...]) -> None:
    process = start(*command)
    try:
        assert process.stdout is not None
        printed = ""
        while (found := re.search(r"http://127\.0\.0\.1:\d+/page/", printed)) is None:
            line = process.stdout.readline()
            assert line, f"the command has ended: {printed}"
            printed += line
        page = httpx2.get(found[0])
        clips = httpx2.get(f"{found[0]}clips").json()
    finally:
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0
    assert page.status_code == 200
    assert "mmduet-config" in page.text
    assert [clip["name"] for clip in clips] == ["arrivals", "hiding", "touching", "colours", "search"]


def test_public_page_without_limits_is_refused(mmduet: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MMDUET_KEYS", "secret")
    done = mmduet("demo", "--public", "--no-open")
    assert done.status == 2
    assert "max_sessions_per_client_secret" in done.err or "--max-sessions-per-client-secret" in done.err
