"""Write the corpus of malformed inputs: ``python test/corpus/make_corpus.py``. ``CASES`` has the outcome of every file.

An outcome is ``plays`` or the code of the error. Kinds: ``video`` (a file for the task commands), ``body`` (a request for a
chat completion), ``message`` (for a session), ``checkpoint`` (a manifest), ``settings`` (of the server).
"""

from __future__ import annotations

import json
import struct
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent
sys.path.insert(0, str(ROOT.parent / "fuzz/support"))

from container_files import intact  # noqa: E402

FILES = ROOT / "files"


@dataclass(frozen=True)
class Case:
    """One malformed input: its file, what it is for, what must happen, and its bytes."""

    name: str
    kind: str
    outcome: str
    make: Callable[[], bytes]


def text(value: str) -> Callable[[], bytes]:
    return value.encode


def as_json(value: Any) -> Callable[[], bytes]:
    return lambda: json.dumps(value).encode()


def part_of(name: str, share: float) -> Callable[[], bytes]:
    return lambda: intact(name)[: int(share * len(intact(name)))]


def replaced(name: str, old: bytes, new: bytes) -> Callable[[], bytes]:
    assert len(old) == len(new)
    return lambda: intact(name).replace(old, new)


def chat(content: Any, **fields: Any) -> Callable[[], bytes]:
    return as_json(
        {"model": "random:tiny", "max_tokens": 2, "messages": [{"role": "user", "content": content}], **fields}
    )


def image_part(url: str) -> list[dict[str, Any]]:
    return [{"type": "text", "text": "What?"}, {"type": "image_url", "image_url": {"url": url}}]


def manifest(**model: Any) -> Callable[[], bytes]:
    sizes = {"vocab_size": 512, "hidden_size": 48, "intermediate_size": 96, "heads": 4, "kv_heads": 2, "head_dim": 12}
    vision = {"image_size": 28, "patch_size": 7}
    values = {"name": "m", "vision": vision, "text": {**sizes, "layers": 2}, "pooling_stride": 2} | model
    return as_json({"format": 1, "model": values})


def frame(kind: int, data: bytes, version: int = 1) -> bytes:
    return struct.pack("<BBHIQ", version, kind, 0, 0, 0) + data


CASES = (
    Case("intact.mp4", "video", "plays", lambda: intact("mpeg4.mp4")),
    Case("intact.webm", "video", "plays", lambda: intact("webm")),
    Case("intact.gif", "video", "plays", lambda: intact("gif")),
    Case("wrong-extension.mp4", "video", "plays", lambda: intact("mkv")),
    Case("trailing-bytes.mp4", "video", "plays", lambda: intact("mpeg4.mp4") + b"\x00" * 64),
    Case("empty.mp4", "video", "corrupt_video", bytes),
    Case("zeros.mp4", "video", "corrupt_video", lambda: bytes(512)),
    Case("text.mp4", "video", "corrupt_video", text("This is not a video.\n" * 8)),
    Case("no-index.mp4", "video", "corrupt_video", part_of("mpeg4.mp4", 0.1)),
    Case("header-only.mkv", "video", "corrupt_video", part_of("mkv", 0.02)),
    Case("no-decoder.mkv", "video", "no_decoder", replaced("mkv", b"V_MPEG4", b"V_ZZZZ4")),
    Case("itself.m3u8", "video", "bad_video", text("#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=1\nitself.m3u8\n")),
    Case("outside.m3u8", "video", "bad_video", text("#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nfile:///etc/hostname\n#EXT-X-ENDLIST\n")),
    Case("network.m3u8", "video", "bad_video", text("#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nhttp://127.0.0.1:9/a.ts\n#EXT-X-ENDLIST\n")),
    Case("outside.ffconcat", "video", "corrupt_video", text("ffconcat version 1.0\nfile '/etc/hostname'\n")),
    Case("not-json.json", "body", "invalid_json", text('{"model": ')),
    Case("deep.json", "body", "invalid_json", lambda: b"[" * 3000),
    Case("no-messages.json", "body", "missing_parameter", as_json({"model": "random:tiny"})),
    Case("unknown-part.json", "body", "invalid_value", chat([{"type": "sound", "sound": 1}])),
    Case("bad-base64.json", "body", "bad_source", chat(image_part("data:image/png;base64,####"))),
    Case("cut-image.json", "body", "bad_video", chat(image_part("data:image/png;base64,iVBORw0KGgo="))),
    Case("file-url.json", "body", "bad_source", chat(image_part("file:///etc/hostname"))),
    Case("negative-tokens.json", "body", "invalid_value", chat("Hello", max_tokens=-1)),
    Case("infinite-temperature.json", "body", "invalid_value", chat("x", temperature=float("inf"))),
    Case("surrogate.json", "body", "invalid_json", chat("\ud800")),
    Case("not-json.txt", "message", "invalid_json", text("hello")),
    Case("no-type.txt", "message", "missing_parameter", text('{"event_id": "a"}')),
    Case("unknown-type.txt", "message", "unknown_event", text('{"type": "session.destroy"}')),
    Case("huge-number.txt", "message", "invalid_value", as_json({"type": "input_frame.append", "image": "", "pts": 10**400})),
    Case("bad-image.txt", "message", "invalid_value", text('{"type": "input_frame.append", "image": "####", "pts": 0}')),
    Case("empty-frame.bin", "message", "invalid_frame", bytes),
    Case("short-header.bin", "message", "invalid_frame", lambda: frame(1, b"")[:9]),
    Case("other-version.bin", "message", "invalid_frame", lambda: frame(1, b"x", version=9)),
    Case("unknown-format.bin", "message", "invalid_frame", lambda: frame(77, b"x")),
    Case("short-raw-frame.bin", "message", "invalid_frame", lambda: frame(4, struct.pack("<HH", 640, 480) + b"x")),
    Case("not-json.manifest", "checkpoint", "bad_checkpoint", text("{")),
    Case("no-model.manifest", "checkpoint", "bad_checkpoint", as_json({"format": 1})),
    Case("many-layers.manifest", "checkpoint", "bad_checkpoint", manifest(vision={"layers": 10**9})),
    Case("zero-patches.manifest", "checkpoint", "bad_checkpoint", manifest(vision={"patch_size": 0})),
    Case("list.manifest", "checkpoint", "bad_checkpoint", manifest(vision=[])),
    Case("not-toml.toml", "settings", "bad_option", text("port = = 1")),
    Case("unknown-setting.toml", "settings", "bad_option", text("prot = 1")),
    Case("wrong-type.toml", "settings", "bad_option", text('max_sessions = "many"')),
    Case("not-utf8.toml", "settings", "bad_option", lambda: b'host = "\xff\xfe"'),
)  # fmt: skip


def write(folder: Path) -> None:
    """Write every file of the corpus to ``folder``."""
    for case in CASES:
        path = folder / case.kind / case.name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(case.make())


if __name__ == "__main__":
    write(FILES)
