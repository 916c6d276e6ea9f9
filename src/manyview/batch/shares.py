"""What each of several processes on one machine has of it: a device, its part of memory, cores."""

from __future__ import annotations

import dataclasses
import os

import torch

from ..models.network import Network
from ..reconstruction.plan.machine import inspect_machine, pick_device
from ..reconstruction.run.options import ReconstructOptions
from ..reconstruction.run.prepare import weights_elsewhere


@dataclasses.dataclass(frozen=True)
class Share:
    """What one of `jobs` processes has: its device, its part of the device's memory, cores for threads."""

    device: str
    memory_limit_gib: float | None
    threads: int
    cores: int
    jobs: int

    def onto(self, options: ReconstructOptions) -> ReconstructOptions:
        return dataclasses.replace(options, device=self.device, memory_limit_gib=self.memory_limit_gib)


def shares(model: Network, options: ReconstructOptions, jobs: int) -> list[Share]:
    """The share of each process: cores are divided, and memory among those on one device.

    "cuda" spreads the processes over all cards of the first one's kind.
    """
    places = devices(options.device)
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    found = []
    for index in range(jobs):
        place = places[index % len(places)]
        sharing = len(range(index % len(places), jobs, len(places)))
        limit = options.memory_limit_gib
        if sharing > 1:
            there = torch.device(place)
            machine = inspect_machine(
                there,
                None if limit is None else int(limit * 2**30),
                reserve_bytes=sharing * weights_elsewhere(model, there),
            )
            limit = machine.free_bytes / sharing / 2**30
        threads = max(1, torch.get_num_threads() // jobs)
        found.append(Share(place, limit, threads, max(1, cores // jobs), jobs))
    return found


def devices(name: str) -> list[str]:
    """The devices that "cuda" or "auto" stands for, or the one that is named."""
    device = pick_device(name)
    if device.type != "cuda" or device.index is not None:
        return [str(device)]
    kind = torch.cuda.get_device_name(0)
    return [f"cuda:{i}" for i in range(torch.cuda.device_count()) if torch.cuda.get_device_name(i) == kind]
