"""``mmduet version``: show the versions of mmduet and its dependencies, from package metadata, without importing them."""

from __future__ import annotations

import platform
from importlib.metadata import PackageNotFoundError
from importlib.metadata import version as installed_version

import typer

from mmduet import __version__

DEPENDENCIES = ("torch", "transformers", "tokenizers", "av", "numpy")


def version() -> None:
    """Show the versions of mmduet, Python and the main dependencies."""
    typer.echo(f"mmduet {__version__}")
    typer.echo(f"python {platform.python_version()} on {platform.system()} {platform.machine()}")
    for name in DEPENDENCIES:
        try:
            typer.echo(f"{name} {installed_version(name)}")
        except PackageNotFoundError:
            typer.echo(f"{name} is not installed")


def show_and_exit(is_requested: bool) -> None:
    """Print the version and exit, for ``mmduet --version``."""
    if is_requested:
        typer.echo(f"mmduet {__version__}")
        raise typer.Exit
