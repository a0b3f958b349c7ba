"""The ``mmduet`` command: registers all commands, and turns errors into messages and exit statuses.

The file of a command has a function of the command's name. It imports heavy packages within functions, so that ``--help`` is
fast.
"""

from __future__ import annotations

import logging
import os
import sys
import traceback
from typing import Annotated, NoReturn

import typer

from mmduet.cli import (
    ask,
    bench,
    calibrate,
    caption,
    convert,
    data,
    demo,
    doctor,
    evaluate,
    ground,
    highlight,
    inspect,
    predict,
    run,
    scenes,
    serve,
    sessions,
    stream,
    train,
    version,
)
from mmduet.cli._help import build_command
from mmduet.cli._option_names import name_options_in_errors
from mmduet.errors import MmduetError, OptionError
from mmduet.files import is_disk_error
from mmduet.text import to_printable

DEBUG_VARIABLE = "MMDUET_DEBUG"
SPIN_COUNT = "1000"  # about 20 microseconds

app = typer.Typer(name="mmduet", no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)
app.add_typer(scenes.app, name="scenes")
app.command()(run.run)
app.command()(demo.demo)
app.command()(caption.caption)
app.command()(ground.ground)
app.command()(highlight.highlight)
app.command()(ask.ask)
app.command()(serve.serve)
app.command()(stream.stream)
app.add_typer(sessions.app, name="sessions")
app.command()(predict.predict)
app.command()(evaluate.evaluate)
app.add_typer(data.app, name="data")
app.add_typer(train.app, name="train")
app.command()(calibrate.calibrate)
app.add_typer(bench.app, name="bench")
app.command()(convert.convert)
app.command()(inspect.inspect)
app.command()(doctor.doctor)
app.command()(version.version)


@app.callback()
def options(
    debug: Annotated[bool, typer.Option("--debug", help=f"Show tracebacks, as {DEBUG_VARIABLE}=1 does.")] = False,
    _version: Annotated[
        bool, typer.Option("--version", callback=version.show_and_exit, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    """Run video language models that watch a stream frame by frame and decide when to speak."""
    if debug:
        os.environ[DEBUG_VARIABLE] = "1"  # worker processes inherit the environment


def main(commands: typer.Typer = app) -> None:
    """Run the command line. Typer itself exits with 2 for wrong usage and with 130 for Ctrl-C."""
    # PyTorch's CPU threads spin while they wait for each other, which costs small models most of their time on a busy machine:
    # `mmduet caption` beside two busy processes took three times as long. GNU's OpenMP can spin for a limited time, about that
    # between two operations of a step. The variables are read when torch is imported; a user's values are kept.
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", SPIN_COUNT)
        os.environ["OMP_WAIT_POLICY"] = "PASSIVE"
    silence_libraries()
    try:
        command = build_command(commands)
        name_options_in_errors(command)
        command()
    except MmduetError as error:
        fail(error)
    except OSError as error:
        if not is_disk_error(error):
            raise
        fail(output_error(error))


def silence_libraries() -> None:
    """Hide log messages of libraries that describe their own workings, such as matplotlib's search for a cache folder."""
    logging.getLogger("matplotlib").setLevel(logging.ERROR)


def output_error(error: OSError) -> OptionError:
    """Return the error for a write that failed outside the files that the user named."""
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # what remains of the output must not fail again when Python exits
    return OptionError(
        f"standard output or a temporary file cannot be written ({error.strerror or error}); free disk space, "
        "or set TMPDIR to another folder"
    )


def fail(error: MmduetError) -> NoReturn:
    """Print ``error`` to stderr and exit with its status."""
    if os.environ.get(DEBUG_VARIABLE, "0") not in ("", "0"):
        traceback.print_exception(error)
    typer.echo(f"{typer.style(f'error[{error.code}]', fg='red', bold=True)}: {to_printable(str(error))}", err=True)
    sys.exit(error.exit_status)
