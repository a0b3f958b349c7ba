"""Writes the pages under docs/ that are made from the code."""

from pathlib import Path

from mmduet.protocol import docs as protocol
from mmduet.server import settings_page as settings

DOCS = Path(__file__).resolve().parent.parent / "docs"
PAGES = {"protocol.md": protocol.page, "settings.md": settings.page}

if __name__ == "__main__":
    for name, page in PAGES.items():
        (DOCS / name).write_text(page(), encoding="utf-8")
