"""A Hugging Face hub on loopback: the requests that ``huggingface_hub`` makes, with gates, broken transfers and a log."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from hashlib import sha1
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlsplit


@dataclass
class Repository:
    """A model on the hub. A ``token`` makes it gated; ``sizes`` are announced instead of the true ones."""

    files: dict[str, bytes]
    token: str | None = None
    sizes: dict[str, int] = field(default_factory=dict)

    @property
    def commit(self) -> str:
        digest = sha1(usedforsecurity=False)
        for name, content in sorted(self.files.items()):
            digest.update(name.encode() + content)
        return digest.hexdigest()

    def size(self, name: str) -> int:
        return self.sizes.get(name, len(self.files[name]))


@dataclass
class FakeHub:
    """The hub: its address, its repositories, and the requests that it got, as method and path."""

    url: str = ""
    repositories: dict[str, Repository] = field(default_factory=dict)
    requests: list[tuple[str, str]] = field(default_factory=list)
    ranges: list[str] = field(default_factory=list)
    break_once: dict[str, int] = field(default_factory=dict)  # by file: bytes after which its next transfer breaks off
    broken: set[str] = field(default_factory=set)  # files whose transfer fails
    status: int = 200  # another one is the answer to everything; 0: connections are closed without an answer

    def add(self, name: str, folder: Path, **settings: object) -> Repository:
        """Publish the files of a folder."""
        files = {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}
        self.repositories[name] = Repository(files, **settings)  # type: ignore[arg-type]
        return self.repositories[name]

    def downloaded(self) -> list[str]:
        """Return the names of the files that were fetched, as ``owner/name/file``."""
        paths = (path.split("/") for method, path in self.requests if method == "GET" and "/resolve/" in path)
        return sorted("/".join([*parts[1:3], *parts[5:]]) for parts in paths)


class Handler(BaseHTTPRequestHandler):
    """Answers the requests for descriptions, listings and files."""

    protocol_version = "HTTP/1.1"
    hub: FakeHub

    def do_HEAD(self) -> None:
        self._answer()

    def do_GET(self) -> None:
        self._answer()

    def log_message(self, *_: object) -> None:
        """Log nothing."""

    def _answer(self) -> None:
        path = unquote(urlsplit(self.path).path)
        self.hub.requests.append((self.command, path))
        if self.hub.status == 0:
            self.close_connection = True
        elif self.hub.status != 200:
            self._send(self.hub.status, b"out of order")
        else:
            self._answer_path(path)

    def _answer_path(self, path: str) -> None:
        is_api, parts = path.startswith("/api/models/"), path.removeprefix("/api/models/").strip("/").split("/")
        name, action, rest = "/".join(parts[:2]), (parts[2:3] or ["revision"])[0], parts[3:] or ["main"]
        repository = self.hub.repositories.get(name)
        if repository is None:
            self._send(401, b"Invalid username or password.", {"X-Error-Code": "RepoNotFound"})
        elif not is_api and repository.token and self.headers.get("Authorization") != f"Bearer {repository.token}":
            message = "Access to model is restricted. You must have access to it and be authenticated."
            self._send(401, message.encode(), {"X-Error-Code": "GatedRepo", "X-Error-Message": message})
        elif rest[0] not in ("main", "v1", repository.commit):
            self._send(404, b"no revision", {"X-Error-Code": "RevisionNotFound"})
        elif action == "revision":
            siblings = [{"rfilename": file, "size": repository.size(file)} for file in repository.files]
            self._send_json({"id": name, "sha": repository.commit, "siblings": siblings})
        elif action == "tree":
            entries = [
                {"type": "file", "path": file, "size": repository.size(file), "oid": etag(content)}
                for file, content in repository.files.items()
            ]
            self._send_json(entries)
        else:
            self._send_file(name, repository, "/".join(rest[1:]))

    def _send_file(self, name: str, repository: Repository, file: str) -> None:
        content = repository.files.get(file)
        headers = {"X-Repo-Commit": repository.commit, "Accept-Ranges": "bytes"}
        if content is None:
            self._send(404, b"no such file", {**headers, "X-Error-Code": "EntryNotFound"})
            return
        if self.command == "GET" and f"{name}/{file}" in self.hub.broken:
            self._send(500, b"broken")
            return
        headers["ETag"] = f'"{etag(content)}"'
        wanted, status = self.headers.get("Range"), 200
        if wanted is not None:
            self.hub.ranges.append(f"{file} {wanted}")
            start = int(wanted.removeprefix("bytes=").split("-")[0])
            headers["Content-Range"] = f"bytes {start}-{len(content) - 1}/{len(content)}"
            content, status = content[start:], 206
        limit = self.hub.break_once.pop(f"{name}/{file}", None) if self.command == "GET" else None
        self._send(status, content, headers, limit)

    def _send_json(self, value: object) -> None:
        self._send(200, json.dumps(value).encode(), {"Content-Type": "application/json"})

    def _send(self, status: int, body: bytes, headers: dict[str, str] | None = None, limit: int | None = None) -> None:
        self.send_response(HTTPStatus(status))
        for name, value in {**(headers or {}), "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "HEAD":
            return
        self.wfile.write(body[:limit])
        if limit is not None:
            self.wfile.flush()
            self.close_connection = True


def etag(content: bytes) -> str:
    """Return the id of a file's content, as git computes it."""
    return sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()


@contextmanager
def fake_hub() -> Iterator[FakeHub]:
    """Serve an empty hub for the length of a block."""
    hub = FakeHub()
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("HubHandler", (Handler,), {"hub": hub}))
    hub.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
