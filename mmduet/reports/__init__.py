"""HTML reports of evaluations: one self-contained file with tables, curves and the worst items."""

from __future__ import annotations

from mmduet.reports.html_report import write_html_report

__all__ = ["write_html_report"]
