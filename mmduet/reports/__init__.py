"""A report as one HTML file that needs nothing beside it: tables, curves, and the items that went worst."""

from __future__ import annotations

from mmduet.reports.write import write_page

__all__ = ["write_page"]
