"""``mmduet version``: which mmduet this is and what it stands on, read from metadata without importing any of it."""

from __future__ import annotations

import platform
from importlib.metadata import PackageNotFoundError
from importlib.metadata import version as installed

import typer

from mmduet import __version__

FOUNDATIONS = ("torch", "transformers", "tokenizers", "av", "numpy")


def version() -> None:
    """Show the versions of mmduet and of what it stands on."""
    typer.echo(f"mmduet {__version__}")
    typer.echo(f"python {platform.python_version()} on {platform.system()} {platform.machine()}")
    for name in FOUNDATIONS:
        try:
            typer.echo(f"{name} {installed(name)}")
        except PackageNotFoundError:
            typer.echo(f"{name} is not installed")


def show_and_exit(wanted: bool) -> None:
    """Answer ``mmduet --version``."""
    if wanted:
        typer.echo(f"mmduet {__version__}")
        raise typer.Exit
