"""``mmduet sessions``: list, show, ask and close the sessions of a server, such as those on a camera that it reads."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated

import typer
from typer import Argument, Option

from mmduet.text import to_printable

if TYPE_CHECKING:
    from mmduet.client import SessionsClient
    from mmduet.protocol.session_status import LastReply, SessionStatus

POLL_SECONDS = 0.2

app = typer.Typer(help="Manage the sessions of a server.", no_args_is_help=True)

Server = Annotated[str, Option("--server", metavar="URL", help="Address of `mmduet serve`.")]
Key = Annotated[
    str | None, Option(envvar="MMDUET_KEY", help="API key of the server, if it requires one.", show_default=False)
]
AsJson = Annotated[bool, Option("--json", help="Print JSON instead of a table.")]
SessionId = Annotated[str, Argument(metavar="SESSION", help="Id of the session.", show_default=False)]
DEFAULT_SERVER = "http://127.0.0.1:8765"


@app.callback()
def sessions() -> None:
    """Manage the sessions of a server, such as those on a camera that it reads."""


@app.command("list")
def list_sessions(server: Server = DEFAULT_SERVER, key: Key = None, as_json: AsJson = False) -> None:
    """List the sessions of the key, newest first."""
    with _connect(server, key) as client:
        found = client.list_sessions()
    if as_json:
        typer.echo(json.dumps([status.model_dump(mode="json") for status in found], indent=2))
        return
    rows = [("session", "state", "source", "scored", "dropped", "newest")]
    rows += [
        (each.id, _state(each), _source(each), str(each.frames.scored), str(_dropped(each)), _age(each))
        for each in found
    ]
    typer.echo("\n".join(_align(rows)) if found else "no sessions")


@app.command()
def show(session: SessionId, server: Server = DEFAULT_SERVER, key: Key = None, as_json: AsJson = False) -> None:
    """Show the state of a session: its source, frames, newest reply and newest error."""
    with _connect(server, key) as client:
        status = client.show(session)
    if as_json:
        typer.echo(status.model_dump_json(indent=2))
        return
    dropped = ", ".join(f"{count} {reason}" for reason, count in status.frames.dropped.items()) or "none"
    rows = [
        ("session", status.id),
        ("state", _state(status)),
        ("source", _source(status)),
        (
            "frames",
            f"{status.frames.received} received, {status.frames.scored} scored, {status.frames.waiting} waiting",
        ),
        ("dropped", dropped),
        ("newest frame", _age(status)),
        ("last reply", to_printable(status.last_reply.text) if status.last_reply else "-"),
        ("last error", f"{status.last_error.code}: {status.last_error.message}" if status.last_error else "-"),
    ]
    typer.echo("\n".join(_align(rows)))


@app.command()
def ask(
    session: SessionId,
    query: Annotated[str, Argument(metavar="QUERY", help="What to ask.", show_default=False)],
    server: Server = DEFAULT_SERVER,
    key: Key = None,
    now: Annotated[bool, Option("--now", help="Request a reply now, regardless of the policy.")] = False,
    wait: Annotated[
        float, Option(metavar="SECONDS", help="How long to wait for the next reply; 0 does not wait.")
    ] = 30,
    as_json: AsJson = False,
) -> None:
    """Ask a session another query and print the next reply. Without a reply, the exit status is 1."""
    with _connect(server, key) as client:
        before = client.show(session).last_reply
        item = client.ask(session, query)
        if now:
            client.speak_now(session)
        reply = _next_reply(client, session, before, wait)
    if as_json:
        answer = None if reply is None else reply.model_dump(mode="json")
        typer.echo(json.dumps({"item": item.model_dump(mode="json"), "reply": answer}, indent=2))
    elif reply is not None:
        typer.echo(to_printable(reply.text))
    if reply is None and wait > 0:
        typer.echo(
            f"{session}: no reply within {wait:g} s; `mmduet sessions show {session}` shows a later one", err=True
        )
        raise typer.Exit(1)


@app.command()
def close(session: SessionId, server: Server = DEFAULT_SERVER, key: Key = None, as_json: AsJson = False) -> None:
    """Close a session. Closing it again has no effect."""
    with _connect(server, key) as client:
        client.delete(session)
    typer.echo(json.dumps({"id": session, "closed": True}) if as_json else f"{session} is closed")


@contextmanager
def _connect(server: str, key: str | None) -> Iterator[SessionsClient]:
    from mmduet.client import SessionsClient

    with SessionsClient(server, key=key) as client:
        yield client


def _next_reply(client: SessionsClient, session: str, before: LastReply | None, seconds: float) -> LastReply | None:
    """Wait for a reply after ``before``, until the session ends."""
    number, end = before.number if before is not None else 0, time.monotonic() + seconds
    while seconds > 0:
        status = client.show(session)
        if status.last_reply is not None and status.last_reply.number > number:
            return status.last_reply
        if status.state == "ended" or time.monotonic() > end:
            return None
        time.sleep(POLL_SECONDS)
    return None


def _state(status: SessionStatus) -> str:
    """Return the state of the source while the session is open, because that is what matters."""
    source = status.source
    if status.state == "ended" or source is None:
        return status.state
    return f"retrying in {source.retry_in_s:.1f} s" if source.retry_in_s is not None else source.state


def _source(status: SessionStatus) -> str:
    return to_printable(status.source.url) if status.source is not None else "-"


def _dropped(status: SessionStatus) -> int:
    return sum(status.frames.dropped.values())


def _age(status: SessionStatus) -> str:
    age = status.frames.newest_age_s
    return "-" if age is None else f"{age:.1f} s ago"


def _align(rows: Sequence[tuple[str, ...]]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  ".join(f"{cell:{width}}" for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
