"""Client secrets: their expiry and renewal, forgeries, and sessions that outlive them and the server."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import httpx2
import pytest
from live_server import RunningServer, SocketClient, run_test_server
from websockets.exceptions import InvalidStatus

from mmduet.server.client_secrets import MAX_RENEWAL_SECONDS, ClientSecrets, account_of

HTTP = httpx2.Client(timeout=60)  # one, because creating a client takes long
SECRETS = "/v1/realtime/client_secrets"
KEY = {"Authorization": "Bearer mine"}


class Clock:
    """A clock that is set by hand."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def bearer(secret: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {secret}"}


def create_secret(server: RunningServer, headers: dict[str, str] = KEY) -> str:
    return HTTP.post(server.http + SECRETS, headers=headers).json()["value"]


def test_a_secret_is_valid_for_its_account_until_it_expires() -> None:
    clock = Clock()
    secrets = ClientSecrets(b"signing key", 60, clock)
    secret = secrets.create("key-1")
    assert (secret.expires_at, account_of(secret.owner)) == (1060, "key-1")
    assert secrets.owner_of(secret.value, ["key-0", "key-1"]) == secret.owner
    assert secrets.create("key-1").owner != secret.owner
    assert secrets.owner_of(secret.value, ["key-0"]) is None  # the key was removed
    assert ClientSecrets(b"another key", 60, clock).owner_of(secret.value, ["key-1"]) is None
    clock.now = 1060
    assert secrets.owner_of(secret.value, ["key-1"]) is None
    assert secrets.owner_of(secret.value, ["key-1"], allow_expired=True) == secret.owner
    assert "key-1" not in secret.value


@pytest.mark.parametrize(
    "change",
    [
        lambda value: value[:-1],
        lambda value: value.removeprefix("ek_"),
        lambda value: value.replace(".1060.", ".9999."),
        lambda value: value + ".x",
        lambda value: "ek_",
        lambda value: "ek_\u00e4.b.c.d.e",
    ],
)
def test_a_changed_secret_is_not_valid(change: Callable[[str], str]) -> None:
    secrets = ClientSecrets(b"signing key", 60, Clock())
    value = secrets.create("key-1").value
    assert change(value) != value
    assert secrets.owner_of(change(value), ["key-1"], allow_expired=True) is None


def test_a_renewed_secret_has_the_same_owner_but_is_not_renewed_for_ever() -> None:
    clock = Clock()
    secrets = ClientSecrets(b"signing key", 60, clock)
    first = latest = secrets.create("key-1")
    while clock.now < 1000 + MAX_RENEWAL_SECONDS - 50:
        clock.now += 50
        renewed = secrets.renew(latest.value, ["key-1"])
        assert renewed is not None
        assert renewed.owner == first.owner
        assert renewed.expires_at >= latest.expires_at
        latest = renewed
    assert latest.expires_at <= 1000 + MAX_RENEWAL_SECONDS
    clock.now = latest.expires_at
    assert secrets.renew(latest.value, ["key-1"]) is None


def test_a_secret_is_renewed_over_http_and_keeps_its_sessions() -> None:
    with run_test_server(keys="mine") as server:
        secret = create_secret(server)
        with server.connect(additional_headers=bearer(secret)) as client:
            session_id = client.receive()["session"]["id"]
            renewed = HTTP.post(f"{server.http}{SECRETS}/renew", headers=bearer(secret)).json()
            assert renewed["session"]["type"] == "realtime"
            listed = HTTP.get(f"{server.http}/v1/sessions", headers=bearer(renewed["value"])).json()["data"]
            assert [status["id"] for status in listed] == [session_id]
        for key in ("mine", "ek_x", "wrong"):
            refused = HTTP.post(f"{server.http}{SECRETS}/renew", headers=bearer(key))
            assert (refused.status_code, refused.json()["error"]["code"]) == (401, "unauthorized")


def resume(server: RunningServer, session: dict, key: str) -> SocketClient:
    """Resume a session with this key on a new socket."""
    client = server.connect(resume=True, additional_headers=bearer(key))
    client.send("session.resume", session_id=session["id"], resume_token=session["duet"]["resume_token"])
    return client


def test_a_session_is_resumed_after_its_secret_has_expired() -> None:
    with run_test_server(keys="mine", client_secret_seconds=0.5) as server:
        secret, client = connect_with_new_secret(server)
        session = client.receive()["session"]
        client.ws.socket.close()
        wait_until_expired(server, secret)
        with pytest.raises(InvalidStatus) as rejected:
            server.connect(additional_headers=bearer(secret))
        assert rejected.value.response.status_code == 401
        with resume(server, session, secret) as client:
            client.receive("session.resumed")
        with resume(server, {**session, "duet": {"resume_token": "wrong"}}, secret) as client:
            client.receive("session.expired")


def connect_with_new_secret(server: RunningServer) -> tuple[str, SocketClient]:
    """Return a secret and a socket that it has opened; try again if it expires before on a busy machine."""
    while True:
        secret = create_secret(server)
        with suppress(InvalidStatus):
            return secret, server.connect(additional_headers=bearer(secret))


def wait_until_expired(server: RunningServer, secret: str) -> None:
    while HTTP.get(f"{server.http}/v1/models", headers=bearer(secret)).status_code != 401:
        pass


def test_a_session_is_resumed_with_another_secret_of_the_same_key_only() -> None:
    with (
        run_test_server(keys="mine,yours") as server,
        server.connect(additional_headers=bearer(create_secret(server))) as client,
    ):
        session = client.receive()["session"]
        with resume(server, session, create_secret(server, bearer("yours"))) as thief:
            thief.receive("session.expired")
        with resume(server, session, create_secret(server)) as client:
            client.receive("session.resumed")


def test_a_secret_outlives_the_server_if_there_is_a_journal(tmp_path: Path) -> None:
    with run_test_server(keys="mine", journal=str(tmp_path)) as server:
        secret = create_secret(server)
        with server.connect(additional_headers=bearer(secret)) as client:
            session = client.receive()["session"]
            client.send_frames(2)
            client.receive("input_frame.scored")
            client.ws.socket.close()
    assert (tmp_path / "client_secrets.key").stat().st_mode & 0o077 == 0
    with run_test_server(keys="mine", journal=str(tmp_path)) as server, resume(server, session, secret) as client:
        client.receive("session.resumed")
    with run_test_server(keys="mine") as server:
        assert HTTP.get(f"{server.http}/v1/models", headers=bearer(secret)).status_code == 401
