"""What is written down of a session so that it outlives its server, and how it is read again; bytes in and out, no files.

A journal is a run of batches, one for each thing that happened: a client's message with all that followed from it, or an output
of the engine's. A batch counts whole or not at all, so what a client sent is either consumed, with its turns and frames, or
will be sent again.
"""

from __future__ import annotations

import json
import struct
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from typing import Any

from mmduet.protocol.frames import Kind, Picture
from mmduet.protocol.server_events import ItemTold
from mmduet.protocol.session.commands import ReadTurn, Watch
from mmduet.protocol.session.event_log import Entry

MAGIC = b"mmduet journal 1\n"
_BATCH = struct.Struct("<II")  # bytes of the batch, their CRC-32
_RECORD = struct.Struct("<cI")  # what it is, bytes of it
_FRAME = struct.Struct("<QdBHH")  # index, time, kind, width, height; the picture follows


@dataclass(frozen=True)
class Opened:
    """Whose session it is, and what it was opened with: ``model`` names the weights that its timeline was watched by."""

    id: str
    token: str
    owner: str
    model: str


@dataclass(frozen=True)
class Fact:
    """One thing that was written down; which fields have a meaning depends on ``kind`` (see ``Scribe``)."""

    kind: str
    number: int = 0
    text: str = ""
    value: Any = None


class Scribe:
    """Collects the facts of one batch, in order; ``batch`` hands them over as bytes."""

    def __init__(self, session: Opened) -> None:
        self.session = session
        self._records: list[bytes] = []

    def opened(self) -> None:
        """The session exists; a journal begins with it."""
        self._note(b"O", _json(asdict(self.session)))

    def frame(self, watch: Watch) -> None:
        """A frame is to be watched."""
        picture = watch.picture
        head = _FRAME.pack(watch.index, watch.time, picture.kind, picture.width, picture.height)
        self._note(b"F", head, picture.data)

    def watched(self, index: int) -> None:
        """A frame has been watched."""
        self._note(b"W", str(index).encode())

    def gone(self, index: int) -> None:
        """A frame is not going to be watched."""
        self._note(b"D", str(index).encode())

    def turn(self, turn: ReadTurn, told: ItemTold) -> None:
        """A turn is to be read; as the client was told of it."""
        self._note(b"T", _json({"turn": asdict(turn), "told": told.model_dump(mode="json")}))

    def read(self, number: int) -> None:
        """A turn has been read."""
        self._note(b"R", str(number).encode())

    def refused(self, number: int) -> None:
        """A turn is not going to be read."""
        self._note(b"X", str(number).encode())

    def wanted(self, what: str) -> None:
        """A reply (``speak``) or the end (``end``) is to come after all that was handed over before."""
        self._note(b"C", what.encode())

    def begun(self) -> None:
        """A reply that was asked for has begun."""
        self._note(b"B", b"")

    def said(self, text: str) -> None:
        """A reply is complete."""
        self._note(b"A", text.encode())

    def event(self, entry: Entry) -> None:
        """The client is told something."""
        only = b"" if entry.only is None else b"!"
        self._note(b"E", b"%d%s %s" % (entry.number, only, entry.text.encode()))

    def state(self, text: bytes) -> None:
        """Where the conversation stands (``Conversation.state``); the last one counts."""
        self._note(b"S", text)

    def source(self, url: str | None) -> None:
        """Which source is being pulled, or is going to be, without secrets."""
        self._note(b"P", _json(url))

    @property
    def idle(self) -> bool:
        """Whether nothing has happened since the last batch."""
        return not self._records

    def batch(self) -> bytes:
        """Everything since the last call, ready to be appended to a journal; nothing where nothing happened."""
        if not self._records:
            return b""
        body = b"".join(self._records)
        self._records.clear()
        return _BATCH.pack(len(body), zlib.crc32(body)) + body

    def _note(self, kind: bytes, *body: bytes) -> None:
        self._records += (_RECORD.pack(kind, sum(map(len, body))), *body)


class NoScribe(Scribe):
    """Where no journal is kept."""

    def __init__(self) -> None:
        super().__init__(Opened("", "", "", ""))

    def _note(self, kind: bytes, *body: bytes) -> None:
        pass


def whole_length(data: bytes) -> int:
    """Bytes of a journal up to the end of its last whole batch; what follows is the torn tail of a crash."""
    end = len(MAGIC) if data.startswith(MAGIC) else 0
    while end and len(data) >= end + _BATCH.size:
        size, checksum = _BATCH.unpack_from(data, end)
        body = memoryview(data)[end + _BATCH.size : end + _BATCH.size + size]
        if len(body) < size or zlib.crc32(body) != checksum:
            break
        end += _BATCH.size + size
    return end


def facts(data: bytes) -> Iterator[Fact]:
    """What a journal says, in order, its torn tail left out."""
    place, end = len(MAGIC), whole_length(data)
    while place < end:
        size, _ = _BATCH.unpack_from(data, place)
        place += _BATCH.size
        yield from _facts_of_batch(data[place : place + size])
        place += size


def _facts_of_batch(body: bytes) -> Iterable[Fact]:
    place = 0
    while place < len(body):
        kind, size = _RECORD.unpack_from(body, place)
        place += _RECORD.size
        yield _fact(kind.decode(), body[place : place + size])
        place += size


def _fact(kind: str, body: bytes) -> Fact:
    match kind:
        case "F":
            index, time, form, width, height = _FRAME.unpack_from(body)
            picture = Picture(Kind(form), body[_FRAME.size :], width, height)
            return Fact(kind, index, value=Watch(index, time, picture))
        case "W" | "D" | "R" | "X":
            return Fact(kind, int(body))
        case "E":
            head, _, text = body.partition(b" ")
            only = -1 if head.endswith(b"!") else None  # a socket that is no more
            number = int(head.removesuffix(b"!"))
            return Fact(kind, number, value=Entry(number, text.decode(), only))
        case "T":
            both = json.loads(body)
            return Fact(kind, value=(ReadTurn(**both["turn"]), ItemTold.model_validate(both["told"])))
        case "O":
            return Fact(kind, value=Opened(**json.loads(body)))
        case "P":
            return Fact(kind, value=json.loads(body))
        case _:
            return Fact(kind, text=body.decode())


def _json(value: Any) -> bytes:
    return json.dumps(value).encode()
