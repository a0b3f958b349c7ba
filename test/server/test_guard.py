"""Nothing is reached for a client but what is allowed, whatever the address is dressed up as."""

from __future__ import annotations

from pathlib import Path

import pytest

from mmduet.errors import SourceError
from mmduet.server.guard import Guard
from mmduet.video.rtsp import shown

ANYWHERE = Guard(hosts=("*",))
SCHEMES = ("http", "https", "rtsp")


def at(*addresses: str):
    return lambda host, port: list(addresses)


@pytest.mark.parametrize("url", ["http://a.example/x", "https://a.example:8443/x", "rtsp://user:pass@a.example/live"])
def test_a_public_address_of_an_allowed_host_is_given_out(url: str) -> None:
    guard = Guard(hosts=("a.example",))
    assert guard.check_url(url, SCHEMES, at("93.184.216.34", "2606:2800:220:1::1")) == "93.184.216.34"


@pytest.mark.parametrize(
    "url",
    [
        "ftp://a.example/", "file:///etc/passwd", "gopher://a.example", "//a.example", "a.example", "", "http://",
        "http://a.example:99999/", "http://[::1", "javascript:alert(1)",
    ],
)  # fmt: skip
def test_other_schemes_and_no_urls_are_refused(url: str) -> None:
    with pytest.raises(SourceError):
        Guard(hosts=("a.example",)).check_url(url, SCHEMES, at("93.184.216.34"))


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1", "10.0.0.1", "172.16.3.4", "192.168.0.1", "169.254.169.254", "0.0.0.0", "100.64.0.1", "224.0.0.1",
        "255.255.255.255", "::1", "::", "fe80::1", "fc00::1", "::ffff:127.0.0.1", "::ffff:10.0.0.1", "ff02::1",
    ],
)  # fmt: skip
def test_private_addresses_are_refused_whatever_the_name(address: str) -> None:
    with pytest.raises(SourceError, match="private"):
        ANYWHERE.check_url("http://innocent.example/", SCHEMES, at("93.184.216.34", address))


@pytest.mark.parametrize(
    "url", ["http://127.0.0.1/", "http://2130706433/", "http://0x7f.1/", "http://[::ffff:7f00:1]/", "http://127.1/"]
)
def test_numbers_that_mean_this_machine_are_refused(url: str) -> None:
    with pytest.raises(SourceError):
        ANYWHERE.check_url(url, SCHEMES)


def test_a_private_network_can_be_allowed() -> None:
    guard = Guard(hosts=("*",), networks=("192.168.1.0/24",))
    assert guard.check_url("rtsp://camera/", SCHEMES, at("192.168.1.7")) == "192.168.1.7"
    with pytest.raises(SourceError):
        guard.check_url("rtsp://camera/", SCHEMES, at("192.168.2.7"))


@pytest.mark.parametrize(
    ("host", "pattern", "allowed"),
    [
        ("a.example", "a.example", True), ("A.Example.", "a.example", True), ("b.a.example", "*.a.example", True),
        ("a.example", "*.a.example", False), ("xa.example", "*.a.example", False), ("a.example.evil", "a.example", False),
        ("a.example@evil", "a.example", False),
    ],
)  # fmt: skip
def test_hosts_are_matched_whole(host: str, pattern: str, allowed: bool) -> None:
    guard = Guard(hosts=(pattern,))
    if allowed:
        assert guard.check_url(f"http://{host}/", SCHEMES, at("93.184.216.34"))
    else:
        with pytest.raises(SourceError):
            guard.check_url(f"http://{host}/", SCHEMES, at("93.184.216.34"))


def test_files_lie_under_a_root_links_followed(tmp_path: Path) -> None:
    root, outside = tmp_path / "root", tmp_path / "outside"
    (root / "sub").mkdir(parents=True)
    outside.mkdir()
    (root / "sub" / "a b.mp4").write_bytes(b"x")
    (outside / "secret.mp4").write_bytes(b"x")
    (root / "link.mp4").symlink_to(outside / "secret.mp4")
    (root / "door").symlink_to(outside)
    guard = Guard(roots=(root,))
    found = root / "sub" / "a b.mp4"
    for good in ("sub/a b.mp4", str(found), f"file://{str(found).replace(' ', '%20')}", "sub/../sub/a b.mp4"):
        assert guard.check_file(good) == found
    for bad in (
        "../outside/secret.mp4", "link.mp4", "door/secret.mp4", "/etc/passwd", "file:///etc/passwd", "sub", "", "none.mp4",
        "sub/%2e%2e/%2e%2e/outside/secret.mp4", "a\0b",
    ):  # fmt: skip
        with pytest.raises(SourceError):
            guard.check_file(bad)
    with pytest.raises(SourceError):
        Guard().check_file(str(found))


def test_what_is_shown_holds_no_secret() -> None:
    assert shown("rtsp://user:pass@cam:554/live?token=x") == "rtsp://cam:554/live"
    assert shown("http://[::1]:80/a?b=c#d") == "http://[::1]:80/a"
    assert "AAAA" not in shown("data:video/mp4;base64,AAAA")
    assert shown("http://[bad") == "the URL"
