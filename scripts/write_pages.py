"""Write the pages under docs/ that are generated from the code."""

from pathlib import Path

from mmduet.cli import _reference as cli
from mmduet.cli.main import app
from mmduet.protocol import docs as protocol
from mmduet.server import logs_page, settings_page
from mmduet.training import recipe_page

DOCS = Path(__file__).resolve().parent.parent / "docs"
PAGES = {
    "protocol.md": protocol.render,
    "settings.md": settings_page.render_page,
    "logs.md": logs_page.render_page,
    "recipes.md": recipe_page.render_page,
    "reference/cli.md": lambda: cli.render(app),
}

if __name__ == "__main__":
    for name, page in PAGES.items():
        (DOCS / name).write_text(page(), encoding="utf-8")
