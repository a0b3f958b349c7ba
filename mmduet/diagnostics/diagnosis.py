"""The report of ``mmduet doctor``: it is complete as far as the installation works, and lists what does not."""

from __future__ import annotations

import platform
import sys
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from mmduet import __version__
from mmduet.diagnostics.machine import Processor, processor
from mmduet.diagnostics.media import ffmpeg_libraries, video_decoders
from mmduet.diagnostics.packages import Extra, Package, core_packages, extras
from mmduet.errors import OptionError
from mmduet.evaluation.scorers.java import find_java

if TYPE_CHECKING:
    from mmduet.engine.device_info import DeviceInfo

Value = TypeVar("Value")


@dataclass(frozen=True)
class Diagnosis:
    """What is installed, what the machine has, and what is missing.

    Attributes:
        problems: What prevents a model from running at all.
        decoders: The decoder of each video codec, None if there is none.
        java: The path of a Java runtime, None if there is none.
        java_problem: Why there is none, and how to install one.
    """

    mmduet: str
    python: str
    system: str
    packages: list[Package]
    processor: Processor | None
    devices: list[DeviceInfo]
    decoders: dict[str, str | None]
    ffmpeg: dict[str, str]
    java: str | None
    java_problem: str | None
    extras: list[Extra]
    problems: list[str]

    def to_dict(self) -> dict[str, Any]:
        """Return the report under the names of its JSON form."""
        return {
            "mmduet": self.mmduet,
            "python": self.python,
            "system": self.system,
            "packages": [package.to_dict() for package in self.packages],
            "processor": None if self.processor is None else self.processor.to_dict(),
            "devices": [device.to_dict() for device in self.devices],
            "decoders": dict(self.decoders),
            "ffmpeg": dict(self.ffmpeg),
            "java": self.java,
            "java_problem": self.java_problem,
            "extras": [extra.to_dict() for extra in self.extras],
            "problems": list(self.problems),
        }


def _describe_devices() -> list[DeviceInfo]:
    from mmduet.engine.device_info import describe_devices

    return describe_devices()


def diagnose(
    load: Callable[[str], object] = import_module,
    describe_devices: Callable[[], list[DeviceInfo]] = _describe_devices,
    find_java: Callable[[], Path] = find_java,
) -> Diagnosis:
    """Examine the installation and the machine. Parts that cannot be examined are problems of the report.

    The arguments examine parts of them: ``load`` imports a module by name, ``find_java`` raises ``OptionError`` without a Java.
    """
    packages = core_packages(load)
    problems = [f"{each.name} {each.problem}" for each in packages if each.problem is not None]
    java, java_problem = _path_or_problem(find_java)
    return Diagnosis(
        __version__,
        f"{platform.python_version()} ({sys.executable})",
        f"{platform.system()} {platform.release()} {platform.machine()}",
        packages,
        _attempt("the processor", _processor, None, problems),
        _attempt("the devices", describe_devices, [], problems),
        _attempt("the video decoders", video_decoders, {}, problems),
        _attempt("the FFmpeg libraries", ffmpeg_libraries, {}, problems),
        java,
        java_problem,
        extras(),
        problems,
    )


def _attempt(part: str, examine: Callable[[], Value], fallback: Value, problems: list[str]) -> Value:
    """Return what ``examine`` returns; if it raises, add a problem and return ``fallback``."""
    try:
        return examine()
    except Exception as error:  # noqa: BLE001 - a broken installation can raise anything; the report contains it
        problems.append(f"{part} cannot be examined: {type(error).__name__}: {error}")
        return fallback


def _processor() -> Processor:
    from mmduet.engine.cpu_threads import available_cores

    return processor(available_cores())


def _path_or_problem(find: Callable[[], Path]) -> tuple[str | None, str | None]:
    try:
        return str(find()), None
    except OptionError as error:
        return None, str(error)
