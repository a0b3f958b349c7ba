"""The processes that torchrun has started for a run: which one this is, and its device."""

from __future__ import annotations

import os
from dataclasses import dataclass

import torch

from mmduet.errors import OptionError
from mmduet.model.devices import resolve_device


@dataclass(frozen=True)
class Process:
    """One of ``world_size`` processes of a run; ``device`` is where its copy of the model is."""

    rank: int
    world_size: int
    device: torch.device

    @property
    def is_first(self) -> bool:
        """Whether this process writes the files of the run."""
        return self.rank == 0


def current_process(device: str) -> Process:
    """Return this process, described by the variables of torchrun; without them it is the only one.

    Raises ``OptionError`` for a device that models cannot be trained on.
    """
    rank, world_size, local_rank = (
        int(os.environ.get(name, default)) for name, default in (("RANK", 0), ("WORLD_SIZE", 1), ("LOCAL_RANK", 0))
    )
    found = resolve_device(device)
    if found.type == "mps":
        raise OptionError("models cannot be trained on mps; use --device cpu or cuda")
    if found.type == "cuda":
        if device.startswith("cuda:") and device != "cuda:0":
            raise OptionError(f"training uses the first visible devices; set CUDA_VISIBLE_DEVICES in place of {device}")
        found = resolve_device(f"cuda:{local_rank}")
    return Process(rank, world_size, found)


def end_process_group() -> None:
    """Disconnect from the other processes, if there are any."""
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()
