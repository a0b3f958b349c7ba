"""The URL policy: only what the allow-lists name is accessible, in whatever form an address is written."""

from __future__ import annotations

from pathlib import Path

import pytest

from mmduet.errors import SourceError
from mmduet.server.url_policy import UrlPolicy

ANY_HOST = UrlPolicy(hosts=("*",))
SCHEMES = ("http", "https", "rtsp")


def resolves_to(*addresses: str):
    return lambda host, port: list(addresses)


@pytest.mark.parametrize("url", ["http://a.example/x", "https://a.example:8443/x", "rtsp://user:pass@a.example/live"])
def test_public_address_of_allowed_host_is_returned(url: str) -> None:
    policy = UrlPolicy(hosts=("a.example",))
    assert policy.check_url(url, SCHEMES, resolves_to("93.184.216.34", "2606:2800:220:1::1")) == "93.184.216.34"


@pytest.mark.parametrize(
    "url",
    [
        "ftp://a.example/", "file:///etc/passwd", "gopher://a.example", "//a.example", "a.example", "", "http://",
        "http://a.example:99999/", "http://[::1", "javascript:alert(1)",
    ],
)  # fmt: skip
def test_other_schemes_and_invalid_urls_are_rejected(url: str) -> None:
    with pytest.raises(SourceError):
        UrlPolicy(hosts=("a.example",)).check_url(url, SCHEMES, resolves_to("93.184.216.34"))


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1", "10.0.0.1", "172.16.3.4", "192.168.0.1", "169.254.169.254", "0.0.0.0", "100.64.0.1", "224.0.0.1",
        "255.255.255.255", "::1", "::", "fe80::1", "fc00::1", "::ffff:127.0.0.1", "::ffff:10.0.0.1", "ff02::1",
    ],
)  # fmt: skip
def test_private_addresses_are_rejected_for_any_host_name(address: str) -> None:
    with pytest.raises(SourceError, match="private"):
        ANY_HOST.check_url("http://innocent.example/", SCHEMES, resolves_to("93.184.216.34", address))


@pytest.mark.parametrize(
    "url", ["http://127.0.0.1/", "http://2130706433/", "http://0x7f.1/", "http://[::ffff:7f00:1]/", "http://127.1/"]
)
def test_numeric_loopback_addresses_are_rejected(url: str) -> None:
    with pytest.raises(SourceError):
        ANY_HOST.check_url(url, SCHEMES)


def test_private_network_can_be_allowed() -> None:
    policy = UrlPolicy(hosts=("*",), networks=("192.168.1.0/24",))
    assert policy.check_url("rtsp://camera/", SCHEMES, resolves_to("192.168.1.7")) == "192.168.1.7"
    with pytest.raises(SourceError):
        policy.check_url("rtsp://camera/", SCHEMES, resolves_to("192.168.2.7"))


@pytest.mark.parametrize(
    ("host", "pattern", "allowed"),
    [
        ("a.example", "a.example", True), ("A.Example.", "a.example", True), ("b.a.example", "*.a.example", True),
        ("a.example", "*.a.example", False), ("xa.example", "*.a.example", False), ("a.example.evil", "a.example", False),
        ("a.example@evil", "a.example", False),
    ],
)  # fmt: skip
def test_host_patterns_match_whole_names(host: str, pattern: str, allowed: bool) -> None:
    policy = UrlPolicy(hosts=(pattern,))
    if allowed:
        assert policy.check_url(f"http://{host}/", SCHEMES, resolves_to("93.184.216.34"))
    else:
        with pytest.raises(SourceError):
            policy.check_url(f"http://{host}/", SCHEMES, resolves_to("93.184.216.34"))


def test_files_must_be_under_a_root_after_resolving_links(tmp_path: Path) -> None:
    root, outside = tmp_path / "root", tmp_path / "outside"
    (root / "sub").mkdir(parents=True)
    outside.mkdir()
    (root / "sub" / "a b.mp4").write_bytes(b"x")
    (outside / "secret.mp4").write_bytes(b"x")
    (root / "link.mp4").symlink_to(outside / "secret.mp4")
    (root / "linked").symlink_to(outside)
    policy = UrlPolicy(roots=(root,))
    found = root / "sub" / "a b.mp4"
    for good in ("sub/a b.mp4", str(found), f"file://{str(found).replace(' ', '%20')}", "sub/../sub/a b.mp4"):
        assert policy.check_file(good) == found
    for bad in (
        "../outside/secret.mp4", "link.mp4", "linked/secret.mp4", "/etc/passwd", "file:///etc/passwd", "sub", "", "none.mp4",
        "sub/%2e%2e/%2e%2e/outside/secret.mp4", "a\0b",
    ):  # fmt: skip
        with pytest.raises(SourceError):
            policy.check_file(bad)
    with pytest.raises(SourceError):
        UrlPolicy().check_file(str(found))
