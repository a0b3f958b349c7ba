"""TLS with the server's own certificate."""

from __future__ import annotations

import ssl
from pathlib import Path

import httpx2
import pytest
from certificates import write_certificate
from live_server import SocketClient, run_test_server
from websockets.sync.client import connect

from mmduet.errors import OptionError
from mmduet.server.config_loading import load_config


def test_http_and_websockets_use_tls(tmp_path: Path) -> None:
    certificate, key = write_certificate(tmp_path)
    trusting = ssl.create_default_context(cafile=str(certificate))
    with run_test_server(tls_certificate=certificate, tls_key=key) as server:
        assert httpx2.get(f"https://localhost:{server.port}/health", verify=trusting).status_code == 200
        url = f"wss://127.0.0.1:{server.port}/v1/realtime"
        with SocketClient(connect(url, ssl=trusting, compression=None, legacy=True)) as client:
            client.send_frames(1)
            assert client.end_stream()[-1]["frames"]["received"] == 1
        with pytest.raises(httpx2.HTTPError):
            httpx2.get(f"http://127.0.0.1:{server.port}/health")


def test_certificate_and_key_may_be_one_file(tmp_path: Path) -> None:
    certificate, key = write_certificate(tmp_path)
    combined = tmp_path / "both.pem"
    combined.write_bytes(certificate.read_bytes() + key.read_bytes())
    assert load_config(tls_certificate=combined).tls_certificate == combined


def test_files_that_cannot_be_used_are_named(tmp_path: Path) -> None:
    certificate, key = write_certificate(tmp_path)
    with pytest.raises(OptionError, match=r"certificate\.pem cannot be used"):
        load_config(tls_certificate=certificate)  # without a key
    (tmp_path / "other").mkdir()
    _, other_key = write_certificate(tmp_path / "other")
    with pytest.raises(OptionError, match="cannot be used"):
        load_config(tls_certificate=certificate, tls_key=other_key)
    key.write_text("no key")
    with pytest.raises(OptionError, match="cannot be used"):
        load_config(tls_certificate=certificate, tls_key=key)
    with pytest.raises(OptionError, match=r"tls_key .*none\.pem cannot be read"):
        load_config(tls_certificate=certificate, tls_key=tmp_path / "none.pem")


def test_a_key_with_a_password_is_rejected_without_asking_for_it(tmp_path: Path) -> None:
    certificate, key = write_certificate(tmp_path, password=b"secret")
    with pytest.raises(OptionError, match="without a password"):
        load_config(tls_certificate=certificate, tls_key=key)
