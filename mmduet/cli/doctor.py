"""``mmduet doctor``: show what this installation and this machine have, and what is missing."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated

import typer
from typer import Option

if TYPE_CHECKING:
    from mmduet.diagnostics import Diagnosis
    from mmduet.engine.device_info import DeviceInfo

GIB = 2**30


def doctor(
    as_json: Annotated[bool, Option("--json", help="Print a JSON object instead of a table.")] = False,
) -> None:
    """Show versions, devices, number types, attention backends, video decoders and Java, and what is missing.

    The exit status is 1 if a part is broken without which no model runs. Missing extras do not count.
    """
    from mmduet.diagnostics import diagnose

    print_diagnosis(diagnose(), as_json)


def print_diagnosis(diagnosis: Diagnosis, as_json: bool) -> None:
    """Print the report. Exit with status 1 if it has problems."""
    typer.echo(json.dumps(diagnosis.to_dict(), indent=2) if as_json else format_diagnosis(diagnosis))
    if diagnosis.problems:
        raise typer.Exit(1)


def format_diagnosis(diagnosis: Diagnosis) -> str:
    """Return the report as a table of two columns."""
    rows = [*_software_rows(diagnosis), *_machine_rows(diagnosis), *_optional_rows(diagnosis)]
    rows += [("problem", problem) for problem in diagnosis.problems]
    width = max(len(name) for name, _ in rows)
    return "\n".join(f"{name:{width}}  {text}".rstrip() for name, text in rows)


def _software_rows(diagnosis: Diagnosis) -> Iterator[tuple[str, str]]:
    yield "mmduet", diagnosis.mmduet
    yield "python", diagnosis.python
    yield "system", diagnosis.system
    for package in diagnosis.packages:
        yield package.name, package.version or "missing"
    yield "ffmpeg", ", ".join(f"{name} {version}" for name, version in diagnosis.ffmpeg.items()) or "missing"


def _machine_rows(diagnosis: Diagnosis) -> Iterator[tuple[str, str]]:
    found = diagnosis.processor
    if found is not None:
        yield "processor", f"{found.name}, {found.cores} cores for this process"
        if found.instructions is not None:
            yield "instructions", ", ".join(found.instructions) or "none that make models faster"
    for device in diagnosis.devices:
        yield from _device_rows(device)


def _device_rows(device: DeviceInfo) -> Iterator[tuple[str, str]]:
    sizes = f"{device.free_bytes / GIB:.1f} of {device.total_bytes / GIB:.1f} GiB free"
    yield f"device {device.name}", f"{device.description}; {sizes}; {', '.join(device.dtypes)}"
    for name, reason in device.attention.items():
        is_auto = " (chosen by auto)" if name == device.auto_attention else ""
        yield f"  attention {name}", f"available{is_auto}" if reason is None else f"not available: {reason}"


def _optional_rows(diagnosis: Diagnosis) -> Iterator[tuple[str, str]]:
    for codec, decoder in diagnosis.decoders.items():
        yield f"decoder {codec}", decoder or "missing in this build of PyAV; install a wheel from PyPI"
    yield "java", diagnosis.java or f"missing: {diagnosis.java_problem}"
    for extra in diagnosis.extras:
        missing = f"missing {', '.join(extra.missing)}; {extra.install_command}"
        yield f"extra {extra.name}", missing if extra.missing else "installed"
