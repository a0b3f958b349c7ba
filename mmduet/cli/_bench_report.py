"""The report that a measurement prints."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import typer


def finish_report(report: dict[str, Any], json_path: Path | None) -> None:
    """Print a report and write it to ``json_path``. Exit with status 1 if it has faults."""
    from mmduet.files import write_json

    for name, value in report.items():
        if name != "faults":
            typer.echo(f"{name:22} {f'{value:.6g}' if isinstance(value, float) else value}")
    if json_path is not None:
        write_json(json_path, report, indent=2)
    for fault in report["faults"]:
        typer.echo(fault, err=True)
    if report["faults"]:
        raise typer.Exit(1)
