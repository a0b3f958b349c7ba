"""Where the results of a measurement go: a table, a JSON file and a plot."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from mmduet.bench.engine.report import format_extras, format_table
from mmduet.errors import OptionError
from mmduet.files import write_json


def check_output_files(*paths: Path | None) -> None:
    """Raise ``OptionError`` for an output file in a directory that does not exist, before anything is measured."""
    for path in paths:
        if path is not None and not path.parent.is_dir():
            raise OptionError(f"{path.parent} is not a directory; create it, or write {path.name} to another one")


def write_outputs(report: dict[str, Any], json_path: Path | None, plot_path: Path | None) -> str:
    """Write the files that are given, and return the figures as text. Raise ``OptionError`` if a file cannot be written."""
    if json_path is not None:
        write_json(json_path, report, indent=2)
    if plot_path is not None:
        from mmduet.viz.scaling_plot import save_scaling_plot  # needs matplotlib

        save_scaling_plot(plot_path, report)
    return "\n".join(part for part in (format_table(report["runs"]), format_extras(report["runs"])) if part)
