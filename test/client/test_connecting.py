"""Failures to connect are errors of the tree that name the reason, and leave no task or thread behind."""

from __future__ import annotations

import asyncio
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import live_server
import pytest
from live_server import RunningServer, run_test_server
from websockets.sync.server import ServerConnection, serve

from mmduet.client import RemoteSession, RemoteStream
from mmduet.client.address import websocket_url
from mmduet.errors import AuthError, OptionError, ServerError, SessionClosedError

KEY = "open-sesame"


@pytest.fixture(scope="module")
def served() -> Iterator[RunningServer]:
    with run_test_server(keys=KEY) as server:
        yield server


CERTIFICATE = Path(live_server.__file__).with_name("loopback.pem")


@contextmanager
def http_server(
    respond: Callable[[BaseHTTPRequestHandler], None], *, tls: bool = False
) -> Iterator[tuple[str, list[str | None]]]:
    """Yield the address of an HTTP server, and the Authorization headers that it receives."""
    received: list[str | None] = []

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            received.append(self.headers.get("authorization"))
            respond(self)

        def log_message(self, *_: object) -> None:
            """Log nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    if tls:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(CERTIFICATE)
        server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield f"127.0.0.1:{server.server_port}", received
    finally:
        server.shutdown()
        server.server_close()


def redirect_to(location: str | None, status: int = 302) -> Callable[[BaseHTTPRequestHandler], None]:
    def respond(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(status)
        if location is not None:
            handler.send_header("Location", location.replace("{path}", handler.path))
        handler.send_header("Content-Length", "0")
        handler.end_headers()

    return respond


async def connect_async(url: str, key: str | None = None) -> str:
    async with RemoteSession(url, key=key) as session:
        assert session.created is not None
        return session.created.model


def connect_blocking(url: str, key: str | None = None) -> str:
    with RemoteStream(url, key=key) as stream:
        return stream.session.model


def run_async(url: str, key: str | None = None) -> str:
    return asyncio.run(connect_async(url, key))


CLIENTS = pytest.mark.parametrize("connect_to", [run_async, connect_blocking], ids=["async", "blocking"])


@CLIENTS
@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_within_the_host_is_followed_with_the_key(
    served: RunningServer, connect_to: Callable[[str, str], str], status: int
) -> None:
    for scheme in ("http", "ws"):
        target = f"{scheme}://127.0.0.1:{served.port}/v1/realtime"
        with http_server(redirect_to(target, status)) as (address, received):
            assert connect_to(address, KEY) == "random:tiny"
            assert received == [f"Bearer {KEY}"]


@CLIENTS
def test_a_redirect_to_tls_is_followed_and_one_from_tls_is_not(
    connect_to: Callable[[str, str], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(CERTIFICATE))

    def answer(handler: BaseHTTPRequestHandler) -> None:
        handler.send_error(418)

    with (
        http_server(answer, tls=True) as (secure, received),
        http_server(redirect_to(f"https://{secure}/x")) as (plain, _),
    ):
        with pytest.raises(ServerError, match="responded with status 418"):
            connect_to(f"http://{plain}", KEY)
        assert received == [f"Bearer {KEY}"]
    with (
        http_server(answer) as (plain, received),
        http_server(redirect_to(f"http://{plain}/x"), tls=True) as (secure, _),
    ):
        with pytest.raises(ServerError, match="which is not encrypted"):
            connect_to(f"https://{secure}", KEY)
        assert received == []


def test_a_redirect_keeps_the_requested_model(served: RunningServer) -> None:
    with http_server(redirect_to(f"http://127.0.0.1:{served.port}/v1/realtime")) as (address, _):
        with pytest.raises(ServerError, match="'other' is not served here"):
            RemoteStream(address, key=KEY, model="other").__enter__()
        assert RemoteStream(address, key=KEY, model="random:tiny").__enter__().close() is None


@CLIENTS
@pytest.mark.parametrize(
    ("location", "reason"),
    [
        (
            "http://localhost:{port}/v1/realtime",
            r"redirects to http://localhost:\d+/v1/realtime, which is another host",
        ),
        ("https://login.example/start?next=1", "redirects to https://login.example/start, which is another host"),
        ("//stranger.example/x", "redirects to //stranger.example/x, which is another host"),
        ("ftp://127.0.0.1/x", "redirects to ftp://127.0.0.1/x, which is not an address of a server"),
        ("http://127.0.0.1:abc/", "which is not a valid address"),
        ("http://[::1/", "which is not a valid address"),
        ("{path}", "redirects more than 5 times"),
        (None, "redirects without an address"),
        ("/login", "redirects more than 5 times"),
    ],
)
def test_a_redirect_that_is_not_followed_names_the_reason(
    served: RunningServer, connect_to: Callable[[str, str], str], location: str | None, reason: str
) -> None:
    location = location.replace("{port}", str(served.port)) if location else None
    with http_server(redirect_to(location)) as (address, received):
        with pytest.raises(ServerError, match=reason) as caught:
            connect_to(address, KEY)
        assert not isinstance(caught.value, AuthError)
        assert caught.value.__cause__ is None
        assert f"ws://{address}" in str(caught.value)
        assert KEY not in str(caught.value)
        assert set(received) == {f"Bearer {KEY}"}


def test_a_redirect_to_a_page_is_an_error_with_its_status() -> None:
    def respond(handler: BaseHTTPRequestHandler) -> None:
        if handler.path.startswith("/v1/"):
            redirect_to("/login")(handler)
        else:
            handler.send_response(200)
            handler.send_header("Content-Length", "5")
            handler.end_headers()
            handler.wfile.write(b"Hello")

    with (
        http_server(respond) as (address, _),
        pytest.raises(ServerError, match=r"responded with status 200: OK"),
        RemoteStream(address),
    ):
        pass


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("host", "ws://host/v1/realtime"),
        ("https://host/mmduet", "wss://host/mmduet/v1/realtime"),
        ("https://host/mmduet/", "wss://host/mmduet/v1/realtime"),
        ("http://host/v1", "ws://host/v1/realtime"),
        ("http://host/api/v1/", "ws://host/api/v1/realtime"),
        ("ws://host/v1/realtime", "ws://host/v1/realtime"),
        ("WSS://Host/v1/realtime/", "wss://Host/v1/realtime"),
        (" host:8765\n", "ws://host:8765/v1/realtime"),
        ("ws://[::1]:9/prefix", "ws://[::1]:9/prefix/v1/realtime"),
        ("host/prefix", "ws://host/prefix/v1/realtime"),
        ("ws://user:p%2Fw@host", "ws://user:p%2Fw@host/v1/realtime"),
    ],
)
def test_a_base_url_is_completed(url: str, expected: str) -> None:
    assert websocket_url(url) == expected


@CLIENTS
@pytest.mark.parametrize(
    "url",
    [
        "", " ", "ws://", "ws:///path", "ws://host:abc", "host:abc", "ws://host:99999", "ws://host:-1", "ws://:8765",
        "ftp://host", "file:///etc/passwd", "rtsp://host/x", "ws:/host", "http:/host/v1", "ws://[::1", "ws://a b",
        "ws://" + "a" * 70 + ".example", "ws://user:12/S3cret@host", "ws://user:S3cret/x@host:80",
    ],
)  # fmt: skip
def test_an_address_that_is_not_valid_is_an_option_error(connect_to: Callable[[str], str], url: str) -> None:
    with pytest.raises(OptionError, match=r"server '.*' is not a valid address") as caught:
        connect_to(url)
    assert "S3cret" not in str(caught.value)


def test_a_prefix_reaches_a_server_behind_a_proxy(served: RunningServer) -> None:
    with pytest.raises(ServerError, match="no WebSocket endpoint at /mmduet/v1/realtime"):
        connect_blocking(f"http://127.0.0.1:{served.port}/mmduet", KEY)
    with run_test_server(root_path="/mmduet") as prefixed:
        assert connect_blocking(f"http://127.0.0.1:{prefixed.port}/mmduet/") == "random:tiny"
    assert connect_blocking(f"http://127.0.0.1:{served.port}/v1", KEY) == "random:tiny"


@contextmanager
def raw_server(reply: bytes) -> Iterator[str]:
    """Yield the address of a server that answers every connection with ``reply`` and closes it."""
    listener = socket.create_server(("127.0.0.1", 0))

    def run() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            with connection:
                connection.recv(65536)
                connection.sendall(reply)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    try:
        yield f"127.0.0.1:{listener.getsockname()[1]}"
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join(5)


@CLIENTS
@pytest.mark.parametrize(
    "reply",
    [
        b"",
        b"SSH-2.0-OpenSSH\r\n",
        b"HTTP/1.0 302 Found\r\nLocation: /x\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\n\r\n",
        b"\x00" * 999,
    ],
)
def test_a_server_that_speaks_something_else_is_an_error(connect_to: Callable[[str], str], reply: bytes) -> None:
    with raw_server(reply) as address, pytest.raises(ServerError, match=f"ws://{address}/v1/realtime .+"):
        connect_to(address)
    with raw_server(reply) as address, pytest.raises(ServerError, match=r"wss://.* cannot be reached"):
        connect_to(f"wss://{address}")


@contextmanager
def websocket_server(handle: Callable[[ServerConnection], None]) -> Iterator[str]:
    with serve(handle, "127.0.0.1", 0) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield f"127.0.0.1:{server.socket.getsockname()[1]}"
        server.shutdown()
        thread.join(5)


@CLIENTS
@pytest.mark.parametrize(
    ("handle", "words"),
    [
        (lambda ws: ws.close(1011, "fault"), "cannot be reached"),
        (lambda ws: ws.socket.close(), "cannot be reached"),
        (lambda ws: ws.send("hello"), "not valid"),
        (lambda ws: ws.send('{"type": "session.created"}'), "not valid"),
        (lambda ws: ws.send(b"\x00\x01"), "not valid"),
    ],
)
def test_a_socket_that_is_not_a_session_is_an_error(
    connect_to: Callable[[str], str], handle: Callable[[ServerConnection], None], words: str
) -> None:
    with websocket_server(handle) as address, pytest.raises(ServerError, match=words):
        connect_to(address)


FAILURES = """
import asyncio, gc, logging, sys, threading
from mmduet.client import RemoteSession, RemoteStream
from mmduet.errors import MmduetError

logging.getLogger("asyncio").addFilter(lambda record: not record.getMessage().startswith("Executing"))  # slow machine

async def enter(url):
    try:
        async with RemoteSession(url, key="k") as session:
            await session.end()
    except MmduetError as error:
        print(type(error).__name__)
    gc.collect()

async def give_up(url):
    try:
        async with asyncio.timeout(0.2):
            await RemoteSession(url).__aenter__()
    except TimeoutError:
        print("TimeoutError")
    gc.collect()
    print(len(asyncio.all_tasks()), "task")

def block(url):
    try:
        with RemoteStream(url) as stream:
            stream.end()
    except MmduetError as error:
        print(type(error).__name__)
    gc.collect()

silent = sys.argv[1]
for url in sys.argv[2:]:
    asyncio.run(enter(url))
    block(url)
asyncio.run(give_up(silent))
gc.collect()
print(threading.active_count(), "thread")
"""


def test_no_failure_to_connect_leaves_a_task_or_a_message_behind() -> None:
    silent = socket.create_server(("127.0.0.1", 0))  # accepts connections and never answers
    with (
        http_server(redirect_to("https://stranger.example/")) as (stranger, _),
        http_server(redirect_to("{path}")) as (loop, _),
        raw_server(b"HTTP/1.1 500 Fault\r\n\r\n") as fault,
        raw_server(b"\x00") as noise,
        websocket_server(lambda ws: ws.close(1011)) as closing,
        websocket_server(lambda ws: ws.send("{}")) as invalid,
        silent,
    ):
        urls = ["127.0.0.1:9", "ws://host:abc", stranger, loop, fault, noise, f"wss://{noise}", closing, invalid]
        address = f"127.0.0.1:{silent.getsockname()[1]}"
        command = [sys.executable, "-X", "dev", "-W", "ignore::DeprecationWarning", "-c", FAILURES, address, *urls]
        done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    lines = done.stdout.splitlines()
    assert lines[:4] == ["ServerError", "ServerError", "OptionError", "OptionError"]
    assert lines[4:-3] == ["ServerError"] * 2 * (len(urls) - 2)
    assert lines[-3:] == ["TimeoutError", "1 task", "1 thread"]


def test_close_by_another_thread_while_connecting_is_an_error() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        stream = RemoteStream(f"127.0.0.1:{silent.getsockname()[1]}")
        closer = threading.Timer(0.2, stream.close)
        closer.start()
        start = time.monotonic()
        with pytest.raises(SessionClosedError, match="the stream was closed"):
            stream.__enter__()
        closer.join()
        assert time.monotonic() - start < 5
        assert "mmduet-client" not in {thread.name for thread in threading.enumerate()}


def test_a_stream_that_is_not_connected_says_so(served: RunningServer) -> None:
    stream = RemoteStream(f"127.0.0.1:{served.port}", key=KEY)
    with pytest.raises(SessionClosedError, match="not connected"):
        stream.end()
    stream.close()
    with pytest.raises(SessionClosedError, match="was closed"):
        stream.__enter__()
    assert "mmduet-client" not in {thread.name for thread in threading.enumerate()}
