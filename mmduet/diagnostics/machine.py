"""The processor: its name, the cores that this process may use, and the instructions that make models faster."""

from __future__ import annotations

import platform
from dataclasses import dataclass
from pathlib import Path
from typing import Any

INSTRUCTIONS = (
    "avx2",
    "avx512f",
    "avx512_vnni",
    "avx512_bf16",
    "amx_tile",
    "amx_bf16",
    "amx_int8",
    "asimd",
    "bf16",
    "i8mm",
)
"""Instruction sets that matter for float32, bfloat16 and 8-bit products, on x86 and on ARM, as Linux names them."""


@dataclass(frozen=True)
class Processor:
    """The processor. ``instructions`` is None where the system does not list them."""

    name: str
    cores: int
    instructions: tuple[str, ...] | None

    def to_dict(self) -> dict[str, Any]:
        """Return the processor under the names of the report."""
        return {"name": self.name, "cores": self.cores, "instructions": self.instructions}


def processor(cores: int, cpu_info: Path = Path("/proc/cpuinfo")) -> Processor:
    """Return the processor of this machine, of which this process may use ``cores`` cores."""
    fields = _read_first_core(cpu_info)
    flags = fields.get("flags", fields.get("features", "")).split()
    name = fields.get("model name") or platform.processor() or platform.machine()
    return Processor(name, cores, tuple(each for each in INSTRUCTIONS if each in flags) if flags else None)


def _read_first_core(path: Path) -> dict[str, str]:
    """Return the properties of the first core in Linux's list, with names in lower case; empty on other systems."""
    try:
        first = path.read_text(encoding="utf-8", errors="replace").split("\n\n")[0]
    except OSError:
        return {}
    rows = (line.partition(":") for line in first.splitlines())
    return {name.strip().lower(): value.strip() for name, _, value in rows}
