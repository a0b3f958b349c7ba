"""The edge of the command line: what a user sees of an error, and the status a script gets."""

from __future__ import annotations

import sys

import pytest
import typer

from mmduet import __version__
from mmduet.cli import main as edge
from mmduet.errors import MmduetError, VideoNotFoundError


@pytest.fixture
def failing(monkeypatch: pytest.MonkeyPatch) -> typer.Typer:
    """The command line with one command more, ``fail``, which raises what the test puts into it."""
    monkeypatch.setenv(edge.DEBUG_VARIABLE, "0")
    app = typer.Typer(pretty_exceptions_enable=False)
    app.callback()(edge.options)
    monkeypatch.setattr(edge, "app", app)
    return app


def status_of(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> object:
    monkeypatch.setattr(sys, "argv", ["mmduet", *arguments])
    with pytest.raises(SystemExit) as end:
        edge.main()
    return end.value.code


def fails_with(app: typer.Typer, error: BaseException) -> None:
    @app.command()
    def fail() -> None:
        raise error


@pytest.mark.parametrize("error", [VideoNotFoundError("no file 'a.mp4'"), MmduetError("at a loss")])
def test_an_error_is_one_line_and_its_status(
    failing: typer.Typer, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], error: MmduetError
) -> None:
    fails_with(failing, error)
    assert status_of(monkeypatch, "fail") == error.exit_status
    assert capsys.readouterr() == ("", f"error[{error.code}]: {error}\n")


@pytest.mark.parametrize(("arguments", "variable"), [(["--debug", "fail"], "0"), (["fail"], "1")])
def test_debug_shows_the_traceback_as_well(
    failing: typer.Typer,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    variable: str,
) -> None:
    monkeypatch.setenv(edge.DEBUG_VARIABLE, variable)
    fails_with(failing, VideoNotFoundError("no file 'a.mp4'"))
    assert status_of(monkeypatch, *arguments) == VideoNotFoundError.exit_status
    shown = capsys.readouterr().err
    assert shown.startswith("Traceback")
    assert shown.endswith("error[video_not_found]: no file 'a.mp4'\n")


def test_interrupt_leaves_with_130(failing: typer.Typer, monkeypatch: pytest.MonkeyPatch) -> None:
    fails_with(failing, KeyboardInterrupt())
    assert status_of(monkeypatch, "fail") == 130


def test_a_bug_is_not_dressed_up(failing: typer.Typer, monkeypatch: pytest.MonkeyPatch) -> None:
    fails_with(failing, ZeroDivisionError())
    monkeypatch.setattr(sys, "argv", ["mmduet", "fail"])
    with pytest.raises(ZeroDivisionError):
        edge.main()


def test_wrong_usage_leaves_with_2(monkeypatch: pytest.MonkeyPatch) -> None:
    assert status_of(monkeypatch, "scenes", "make", "--no-such-option") == 2


@pytest.mark.parametrize("arguments", [["--version"], ["version"]])
def test_version(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], arguments: list[str]) -> None:
    assert not status_of(monkeypatch, *arguments)
    assert capsys.readouterr().out.splitlines()[0] == f"mmduet {__version__}"
