"""Credentials of URLs appear in no message, event or log line, whatever the URL's shape; file names stay as they are."""

from __future__ import annotations

import logging

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmduet.errors import MmduetError
from mmduet.redaction import redact, redact_text
from mmduet.server.logging_config import JsonFormatter, PlainFormatter

SECRETS = st.text(st.sampled_from("sEcr3t/:?#@%&=+ !$\\\"'[]"), min_size=1, max_size=12).map(lambda text: f"Zq{text}qZ")
STARTS = st.sampled_from(
    ["rtsp://", "rtsps://", "http://", "HTTPS://", "rtps://", "x-y+z.1://", "rtsp:/", "http:/", "htp:/", "rtsp//", "rtsp:",
     "rtsp:\\\\", "1rtsp://", "://", " rtsp://"]
)  # fmt: skip
HOSTS = st.sampled_from(["cam", "10.0.0.7:554", "[::1]:8554", "a.example"])
PATHS = st.sampled_from(["", "/", "/live/main", "/a b.m3u8"])


@given(STARTS, SECRETS, SECRETS, HOSTS, PATHS, st.none() | SECRETS)
def test_no_part_of_credentials_or_query_is_returned(
    start: str, user: str, password: str, host: str, path: str, token: str | None
) -> None:
    query = "" if token is None else f"?token={token}"
    shown = redact(f"{start}{user}:{password}@{host}{path}{query}")
    assert "Zq" not in shown
    assert "qZ" not in shown


@given(STARTS, HOSTS, PATHS, SECRETS.filter(lambda text: not set(text) & set("?#@")))
def test_host_and_path_are_kept(start: str, host: str, path: str, password: str) -> None:
    assert redact(f"{start}user:{password}@{host}{path}?a=b").endswith(f"{host}{path}")
    assert redact(f"rtsp://{host}{path}?a=b#c") == f"rtsp://{host}{path}"


@given(st.text(st.characters(exclude_characters=":", exclude_categories=["Cs"])).filter(lambda name: "//" not in name))
def test_file_names_are_returned_unchanged(name: str) -> None:
    assert redact(name) == name
    assert redact(f"/home/me@work/{name}") == f"/home/me@work/{name}"


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("rtsp://user:pass@cam:554/live?token=x", "rtsp://cam:554/live"),
        ("rtsp://admin:12/S3cret@host/x", "rtsp://host/x"),
        ("rtsp:/admin:12/S3cret@host/x", "rtsp:/host/x"),
        ("rtsp//admin:S3cret@host/x", "rtsp//host/x"),
        ("rtps://admin:S3cret@host/x", "rtps://host/x"),
        ("rtsp://admin:a?b@host/x", "rtsp://..."),
        ("http://host/x?mail=a@b", "http://..."),
        ("http://[::1]:80/a?b=c#d", "http://[::1]:80/a"),
        ("http://[bad", "http://[bad"),
        ("data:video/mp4;base64,AAAA", "data:video/mp4;base64"),
        ("DATA:AAAA", "data:"),
        ("holiday@12:30?.mp4", "holiday@12:30?.mp4"),
        ("http/me@home.mp4", "http/me@home.mp4"),
        ("C:\\me@work\\take#1.mp4", "C:\\me@work\\take#1.mp4"),
        ("C:/me@work/take.mp4", "C:/me@work/take.mp4"),
    ],
)
def test_urls_are_shown_without_secrets(url: str, shown: str) -> None:
    assert redact(url) == shown


@given(
    STARTS.map(str.strip),
    st.none() | SECRETS.filter(lambda text: " " not in text),
    SECRETS.filter(lambda text: " " not in text),
    st.sampled_from(["?", "#", "?token=", "?a=1&b="]),
    st.sampled_from(["", "@", "@x", "@Zq"]),
    HOSTS,
    st.sampled_from(["", ".", ": no such folder", "); check it", "' is not valid"]),
)
def test_no_part_of_credentials_or_query_stays_in_a_text(
    start: str, password: str | None, token: str, query: str, tail: str, host: str, rest: str
) -> None:
    credentials = "" if password is None else f"user:{password}@"
    shown = redact_text(f"the address {start}{credentials}{host}/live{query}{token}{tail}{rest}")
    assert "Zq" not in shown
    assert "qZ" not in shown
    assert shown.startswith("the address ")
    assert shown.endswith(rest)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("https://h/x?a=1@S3cret", "https://..."),
        ("cannot open 'https://h/x?a=S3cret'; check it", "cannot open 'https://h/x'; check it"),
        ("(http://h/x#part), http://u:p@h/y.", "(http://h/x), http://h/y."),
        ("is http://h/x right?", "is http://h/x right?"),
        ("is it http://h/x?", "is it http://h/x?"),
    ],
)
def test_urls_in_texts_are_shown_without_secrets(text: str, shown: str) -> None:
    assert redact_text(text) == shown


def test_errors_and_log_lines_are_redacted() -> None:
    url = "rtsp://admin:12/S3cret@host/x"
    assert str(MmduetError(f"--plot {url}: no such folder")) == "--plot rtsp://host/x: no such folder"
    assert redact_text("write to me@example.org about file a@b.mp4") == "write to me@example.org about file a@b.mp4"
    record = logging.LogRecord("x", logging.ERROR, "x.py", 1, "opening %r failed", (url,), None)
    record.exc_info = (ValueError, ValueError(f"invalid port in {url}"), None)
    for formatter in (PlainFormatter(), JsonFormatter()):
        assert "S3cret" not in formatter.format(record)
        assert "host/x" in formatter.format(record)
