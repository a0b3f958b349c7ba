"""Parse HTML reports, and check what must hold for each of them."""

from __future__ import annotations

import base64
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

from mmduet.evaluation.report import Report
from mmduet.reports import write_html_report

VOID_TAGS = {"meta", "link", "img", "br", "hr", "input"}


class HtmlPage(HTMLParser):
    """A parsed page: tags, texts and links; ``problems`` lists invalid tags."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.problems: list[str] = []
        self._open: list[str] = []
        self._texts: list[str] = []
        self.feed(html)
        self.close()
        self.problems += [f"{tag} is never closed" for tag in self._open]

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if len(dict(attrs)) < len(attrs):
            self.problems.append(f"{tag} has a repeated attribute")
        if tag not in VOID_TAGS:
            self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if not self._open or self._open[-1] != tag:
            self.problems.append(f"{tag} is closed where {self._open[-1:]} is open")
        else:
            self._open.pop()

    def handle_data(self, data: str) -> None:
        if self._open and self._open[-1] not in ("style", "script"):
            self._texts.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self._texts).split())

    def attributes_of(self, tag: str) -> list[dict[str, str | None]]:
        return [attrs for name, attrs in self.tags if name == tag]

    def count_class(self, word: str) -> int:
        return sum(word in (attrs.get("class") or "").split() for _, attrs in self.tags)


def read_page(path: Path) -> HtmlPage:
    """Parse a page, and check that it is valid, self-contained and free of scripts."""
    html = path.read_bytes().decode("utf-8")
    assert html.startswith("<!DOCTYPE html>")
    page = HtmlPage(html)
    assert page.problems == []
    assert {"charset": "utf-8"} in page.attributes_of("meta")
    ids = [attrs["id"] for _, attrs in page.tags if "id" in attrs]
    assert len(ids) == len(set(ids))
    for _, attrs in page.tags:
        for name, value in attrs.items():
            assert not name.startswith("on")
            if name in ("src", "href", "srcset", "action", "data", "poster", "xlink:href"):
                assert value is not None
                assert value.startswith("data:") or value[1:] in ids, value[:80]
    assert page.attributes_of("script") == []
    assert all(attrs.get("alt") for attrs in page.attributes_of("img"))
    assert not re.search(r"@import|url\(", html)
    return page


def write_and_read(tmp_path: Path, report: Report, **files: Any) -> HtmlPage:
    """Write the page of ``report`` and parse it; no temporary file may remain."""
    write_html_report(tmp_path / "page.html", report, **files)
    assert [path.name for path in tmp_path.glob("*page.html*")] == ["page.html"]
    return read_page(tmp_path / "page.html")


def decode_svg(src: str | None) -> str:
    """Return the SVG of a data URL."""
    assert src is not None
    head, _, body = src.partition(",")
    assert head == "data:image/svg+xml;base64"
    return base64.b64decode(body).decode()
