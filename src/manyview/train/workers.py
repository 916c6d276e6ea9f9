"""Processes of one run: each trains on its own scenes, and every few steps all take the mean.

On a CPU one single-threaded process a core degrades gracefully when other work takes a core, where
threads of one process would wait for each other at every operation.
"""

from __future__ import annotations

import os
from collections.abc import Iterable

import torch
import torch.distributed as dist
from torch import Tensor


class Workers:
    """Rank and size of the group, and the few exchanges a run needs. A group of one exchanges nothing.

    The processes find each other by the file `store`, or by what `torchrun` put in the environment.
    """

    def __init__(self, rank: int = 0, size: int = 1, store: str | None = None, backend: str = "gloo") -> None:
        self.rank, self.size = rank, size
        if size > 1:
            where = "env://" if store is None else f"file://{store}"
            dist.init_process_group(backend, init_method=where, rank=rank, world_size=size)

    @classmethod
    def of_torchrun(cls, sharded_cards: bool = False) -> Workers:
        """The group that `torchrun` started this process in; a group of one outside of it.

        `sharded_cards`: weights will be shared out among cards, which exchange them by NCCL.
        """
        if "TORCHELASTIC_RUN_ID" not in os.environ:
            return cls()
        backend = "cpu:gloo,cuda:nccl" if sharded_cards else "gloo"
        if sharded_cards:
            torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", 0)) % torch.cuda.device_count())
        return cls(int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"]), backend=backend)

    def own_device(self, device: str) -> str:
        """The card of this process among those of its machine, where `device` is a card."""
        if self.size == 1 or not device.startswith("cuda"):
            return device
        return f"cuda:{int(os.environ.get('LOCAL_RANK', 0)) % torch.cuda.device_count()}"

    def average(self, tensors: Iterable[Tensor]) -> None:
        """Replace each tensor by its mean over the processes, in one exchange."""
        if self.size == 1:
            return
        together = list(tensors)
        flat = torch.cat([t.detach().reshape(-1).float() for t in together])
        dist.all_reduce(flat)
        flat /= self.size
        start = 0
        for tensor in together:
            tensor.copy_(flat[start : start + tensor.numel()].view_as(tensor))
            start += tensor.numel()

    def from_first(self, values: list[float]) -> list[float]:
        """The first process' numbers, in every process."""
        if self.size == 1:
            return values
        shared = torch.tensor(values, dtype=torch.float64)
        dist.broadcast(shared, 0)
        return shared.tolist()

    def any(self, flag: bool) -> bool:
        """Whether the flag is set in any process."""
        if self.size == 1:
            return flag
        shared = torch.tensor(float(flag))
        dist.all_reduce(shared, dist.ReduceOp.MAX)
        return bool(shared.item() > 0)

    def close(self) -> None:
        """Leave the group."""
        if self.size > 1:
            dist.destroy_process_group()
