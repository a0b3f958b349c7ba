"""The ``mmduet`` command: error messages and exit statuses."""

from __future__ import annotations

import os
import sys

import pytest
import typer

from mmduet import __version__
from mmduet.cli import main as cli
from mmduet.errors import MmduetError, VideoNotFoundError


@pytest.fixture
def failing(monkeypatch: pytest.MonkeyPatch) -> typer.Typer:
    """An app whose command ``fail`` raises the error of the test."""
    monkeypatch.setenv(cli.DEBUG_VARIABLE, "0")
    app = typer.Typer(pretty_exceptions_enable=False)
    app.callback()(cli.options)
    return app


def status_of(monkeypatch: pytest.MonkeyPatch, *arguments: str, app: typer.Typer = cli.app) -> object:
    monkeypatch.setattr(sys, "argv", ["mmduet", *arguments])
    with pytest.raises(SystemExit) as end:
        cli.main(app)
    return end.value.code


def add_failing_command(app: typer.Typer, error: BaseException) -> None:
    @app.command()
    def fail() -> None:
        raise error


@pytest.mark.parametrize("error", [VideoNotFoundError("no file 'a.mp4'"), MmduetError("it failed")])
def test_an_error_is_printed_on_one_line_with_its_exit_status(
    failing: typer.Typer, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], error: MmduetError
) -> None:
    add_failing_command(failing, error)
    assert status_of(monkeypatch, "fail", app=failing) == error.exit_status
    assert capsys.readouterr() == ("", f"error[{error.code}]: {error}\n")


@pytest.mark.parametrize(("arguments", "variable"), [(["--debug", "fail"], "0"), (["fail"], "1")])
def test_debug_prints_the_traceback_before_the_error(
    failing: typer.Typer,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    variable: str,
) -> None:
    monkeypatch.setenv(cli.DEBUG_VARIABLE, variable)
    add_failing_command(failing, VideoNotFoundError("no file 'a.mp4'"))
    assert status_of(monkeypatch, *arguments, app=failing) == VideoNotFoundError.exit_status
    stderr = capsys.readouterr().err
    assert stderr.startswith("Traceback")
    assert stderr.endswith("error[video_not_found]: no file 'a.mp4'\n")


def test_an_interrupt_exits_with_130(failing: typer.Typer, monkeypatch: pytest.MonkeyPatch) -> None:
    add_failing_command(failing, KeyboardInterrupt())
    assert status_of(monkeypatch, "fail", app=failing) == 130


def test_unexpected_exceptions_are_not_caught(failing: typer.Typer, monkeypatch: pytest.MonkeyPatch) -> None:
    add_failing_command(failing, ZeroDivisionError())
    monkeypatch.setattr(sys, "argv", ["mmduet", "fail"])
    with pytest.raises(ZeroDivisionError):
        cli.main(failing)


def test_wrong_usage_exits_with_2(monkeypatch: pytest.MonkeyPatch) -> None:
    assert status_of(monkeypatch, "scenes", "make", "--no-such-option") == 2


@pytest.mark.parametrize("arguments", [["--version"], ["version"]])
def test_the_version_is_printed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], arguments: list[str]
) -> None:
    assert not status_of(monkeypatch, *arguments)
    assert capsys.readouterr().out.splitlines()[0] == f"mmduet {__version__}"


RUNS_A_MODEL = [
    "run", "caption", "ground", "highlight", "ask", "predict", "serve", "scenes score", "scenes window", "scenes drift",
    "bench soak", "train nano", "train recipe",
]  # fmt: skip


@pytest.mark.parametrize("command", RUNS_A_MODEL)
def test_every_command_that_runs_a_model_has_a_number_of_threads(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], command: str
) -> None:
    assert not status_of(monkeypatch, *command.split(), "--help")
    assert "--threads" in capsys.readouterr().out


@pytest.mark.parametrize(("given", "used", "spins"), [(None, "PASSIVE", "1000"), ("ACTIVE", "ACTIVE", None)])
def test_threads_spin_for_a_short_time_unless_the_user_chooses(
    monkeypatch: pytest.MonkeyPatch, given: str | None, used: str, spins: str | None
) -> None:
    monkeypatch.delenv("OMP_WAIT_POLICY", raising=False)
    monkeypatch.delenv("GOMP_SPINCOUNT", raising=False)
    if given is not None:
        monkeypatch.setenv("OMP_WAIT_POLICY", given)
    assert not status_of(monkeypatch, "version")
    assert os.environ["OMP_WAIT_POLICY"] == used
    assert os.environ.get("GOMP_SPINCOUNT") == spins
