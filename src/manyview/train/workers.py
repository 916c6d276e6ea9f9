"""Processes of one run: each trains on different scenes, and every few steps they average.

On a CPU one single-threaded process per core degrades gracefully when other work takes a core, while
threads of one process would wait for each other at every operation.
"""

from __future__ import annotations

import os
from collections.abc import Iterable

import torch
import torch.distributed as dist
from torch import Tensor


class Workers:
    """Rank and size of the group, and its collectives. A group of one communicates nothing.

    The processes find each other by the file `store`, or by the environment of `torchrun`.
    """

    def __init__(self, rank: int = 0, size: int = 1, store: str | None = None, backend: str = "gloo") -> None:
        self.rank, self.size = rank, size
        if size > 1:
            where = "env://" if store is None else f"file://{store}"
            dist.init_process_group(backend, init_method=where, rank=rank, world_size=size)

    @classmethod
    def of_torchrun(cls, sharded_gpus: bool = False) -> Workers:
        """The group that `torchrun` started this process in; a group of one outside of it.

        `sharded_gpus`: weights will be sharded over GPUs, which communicate by NCCL.
        """
        if "TORCHELASTIC_RUN_ID" not in os.environ:
            return cls()
        backend = "cpu:gloo,cuda:nccl" if sharded_gpus else "gloo"
        if sharded_gpus:
            torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", 0)) % torch.cuda.device_count())
        return cls(int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"]), backend=backend)

    def own_device(self, device: str) -> str:
        """The GPU of this process if `device` is "cuda"."""
        if self.size == 1 or not device.startswith("cuda"):
            return device
        return f"cuda:{int(os.environ.get('LOCAL_RANK', 0)) % torch.cuda.device_count()}"

    def average(self, tensors: Iterable[Tensor]) -> None:
        """Replace each tensor by its mean over the processes, in one all-reduce."""
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
        """Broadcast the numbers of the first process."""
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
