"""Format of a session's journal, from which it is recovered after a crash: bytes in and out, no files.

A journal is a sequence of batches with checksums. A batch holds the records of one step: a client's message with its effects,
or an output of the engine. An incomplete batch is ignored, so a message is either consumed together with its turns and frames,
or sent again by the client.
"""

from __future__ import annotations

import json
import struct
import zlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from mmduet.protocol.frames import EncodedImage, ImageFormat
from mmduet.protocol.server_events import Item
from mmduet.protocol.session.commands import AppendTurn, ScoreFrame
from mmduet.protocol.session.event_log import LogEntry

MAGIC = b"mmduet journal 1\n"
_BATCH_HEADER = struct.Struct("<II")  # length of the batch in bytes, its CRC-32
_RECORD_HEADER = struct.Struct("<cI")  # kind, length of the body in bytes
_FRAME_HEADER = struct.Struct("<QdBHH")  # index, time, image format, width, height; the image follows


@dataclass(frozen=True)
class SessionOpened:
    """Identity of a session. ``model`` names the weights that have scored its frames."""

    id: str
    token: str
    owner: str
    model: str


@dataclass(frozen=True)
class JournalRecord:
    """One record. Which fields are used depends on ``kind``, the letter that the methods of ``JournalWriter`` write."""

    kind: str
    number: int = 0
    text: str = ""
    value: Any = None


class JournalWriter:
    """Collects the records of a batch in order; ``take_batch`` returns them as bytes."""

    def __init__(self, session: SessionOpened) -> None:
        self.session = session
        self.size = 0  # of the collected records, in bytes
        self._records: list[bytes] = []

    def write_session(self) -> None:
        """Record the session's identity, with which every journal begins."""
        self._append(b"O", _to_json(_session_to_dict(self.session)))

    def frame_accepted(self, frame: ScoreFrame) -> None:
        """Record that a frame was queued for scoring."""
        image = frame.image
        header = _FRAME_HEADER.pack(frame.index, frame.time, image.format, image.width, image.height)
        self._append(b"F", header, image.data)

    def frame_scored(self, index: int) -> None:
        """Record that a frame was scored."""
        self._append(b"W", str(index).encode())

    def frame_dropped(self, index: int) -> None:
        """Record that a frame was dropped."""
        self._append(b"D", str(index).encode())

    def turn_accepted(self, turn: AppendTurn, item: Item) -> None:
        """Record that a turn was queued. ``item`` is the turn as the server reports it."""
        self._append(b"T", _to_json({"turn": _turn_to_dict(turn), "told": item.model_dump(mode="json")}))

    def turn_read(self, number: int) -> None:
        """Record that the model has read a turn."""
        self._append(b"R", str(number).encode())

    def turn_rejected(self, number: int) -> None:
        """Record that the engine rejected a turn."""
        self._append(b"X", str(number).encode())

    def command_queued(self, name: str) -> None:
        """Record a queued request for a reply (``speak``) or for the end of the stream (``end``)."""
        self._append(b"C", name.encode())

    def reply_started(self) -> None:
        """Record that a requested reply has started."""
        self._append(b"B", b"")

    def reply_finished(self, text: str) -> None:
        """Record the text of a finished reply."""
        self._append(b"A", text.encode())

    def event_emitted(self, entry: LogEntry) -> None:
        """Record an event of the log."""
        private = b"" if entry.subscriber is None else b"!"
        self._append(b"E", b"%d%s %s" % (entry.number, private, entry.text.encode()))

    def state_changed(self, state: bytes) -> None:
        """Record the JSON of ``Conversation.state``. The last one in a journal counts."""
        self._append(b"S", state)

    def source_changed(self, url: str | None) -> None:
        """Record the open or queued source; None for none. The URL must not contain credentials."""
        self._append(b"P", _to_json(url))

    @property
    def is_empty(self) -> bool:
        """Whether there are no records since the last batch."""
        return not self._records

    def take_batch(self) -> bytes:
        """Return the records since the last call as one batch for the journal; empty if nothing was recorded."""
        if not self._records:
            return b""
        body = b"".join(self._records)
        self._records.clear()
        self.size = 0
        return _BATCH_HEADER.pack(len(body), zlib.crc32(body)) + body

    def _append(self, kind: bytes, *body: bytes) -> None:
        size = sum(map(len, body))
        self._records += (_RECORD_HEADER.pack(kind, size), *body)
        self.size += size


class NullJournalWriter(JournalWriter):
    """Writer for sessions without a journal."""

    def __init__(self) -> None:
        super().__init__(SessionOpened("", "", "", ""))

    def _append(self, kind: bytes, *body: bytes) -> None:
        pass


def complete_length(data: bytes) -> int:
    """Return the length in bytes up to the end of the last complete batch; the rest was cut off by a crash."""
    end = len(MAGIC) if data.startswith(MAGIC) else 0
    while end and len(data) >= end + _BATCH_HEADER.size:
        size, checksum = _BATCH_HEADER.unpack_from(data, end)
        body = memoryview(data)[end + _BATCH_HEADER.size : end + _BATCH_HEADER.size + size]
        if len(body) < size or zlib.crc32(body) != checksum:
            break
        end += _BATCH_HEADER.size + size
    return end


def read_records(data: bytes) -> Iterator[JournalRecord]:
    """Yield the records of all complete batches in order."""
    offset, end = len(MAGIC), complete_length(data)
    while offset < end:
        size, _ = _BATCH_HEADER.unpack_from(data, offset)
        offset += _BATCH_HEADER.size
        yield from _records_of_batch(data[offset : offset + size])
        offset += size


def _records_of_batch(body: bytes) -> Iterable[JournalRecord]:
    offset = 0
    while offset < len(body):
        kind, size = _RECORD_HEADER.unpack_from(body, offset)
        offset += _RECORD_HEADER.size
        yield _parse_record(kind.decode(), body[offset : offset + size])
        offset += size


def _parse_record(kind: str, body: bytes) -> JournalRecord:
    match kind:
        case "F":
            index, time, image_format, width, height = _FRAME_HEADER.unpack_from(body)
            image = EncodedImage(ImageFormat(image_format), body[_FRAME_HEADER.size :], width, height)
            return JournalRecord(kind, index, value=ScoreFrame(index, time, image))
        case "W" | "D" | "R" | "X":
            return JournalRecord(kind, int(body))
        case "E":
            head, _, text = body.partition(b" ")
            subscriber = -1 if head.endswith(b"!") else None  # that subscriber does not exist any more
            number = int(head.removesuffix(b"!"))
            return JournalRecord(kind, number, value=LogEntry(number, text.decode(), subscriber))
        case "T":
            values = json.loads(body)
            return JournalRecord(kind, value=(_turn_from_dict(values["turn"]), Item.model_validate(values["told"])))
        case "O":
            return JournalRecord(kind, value=_session_from_dict(json.loads(body)))
        case "P":
            return JournalRecord(kind, value=json.loads(body))
        case _:
            return JournalRecord(kind, text=body.decode())


def _to_json(value: Any) -> bytes:
    return json.dumps(value).encode()


def _session_to_dict(session: SessionOpened) -> dict[str, Any]:
    return {"id": session.id, "token": session.token, "owner": session.owner, "model": session.model}


def _session_from_dict(values: Mapping[str, Any]) -> SessionOpened:
    return SessionOpened(values["id"], values["token"], values["owner"], values["model"])


def _turn_to_dict(turn: AppendTurn) -> dict[str, Any]:
    return {
        "item": turn.item_id,
        "role": turn.role,
        "text": turn.text,
        "keep": turn.keep,
        "number": turn.number,
    }


def _turn_from_dict(values: Mapping[str, Any]) -> AppendTurn:
    return AppendTurn(values["item"], values["role"], values["text"], values["keep"], values["number"])
