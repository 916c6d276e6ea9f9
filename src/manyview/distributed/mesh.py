"""Ranks that are processes, as torchrun starts them: `torch.distributed` with a DeviceMesh."""

from __future__ import annotations

import datetime
import os
from collections.abc import Sequence

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.device_mesh import DeviceMesh

from .frames import FrameSplit
from .ranks import Pending, Ranks

_PATIENCE = datetime.timedelta(days=7)
# The same function: PyTorch 2.13 warns of the older name, and earlier versions do not know the new one.
_all_gather = getattr(dist, "all_gather_single", None) or dist.all_gather_into_tensor


class MeshRanks(Ranks):
    """The ranks of a mesh of one dimension, over NCCL for CUDA tensors and gloo for those in host memory."""

    def __init__(
        self,
        mesh: DeviceMesh,
        split: FrameSplit,
        ring: bool = False,
        patient: dist.ProcessGroup | None = None,
    ) -> None:
        super().__init__(split, ring)
        self.mesh = mesh
        self._group = patient or mesh.get_group()

    @classmethod
    def of_environment(
        cls, device: torch.device, timeout: datetime.timedelta, store: dist.Store | None = None
    ) -> MeshRanks:
        """All processes that the environment names (RANK, WORLD_SIZE, MASTER_ADDR, MASTER_PORT).

        Collective. Each has one frame until `with_split` says otherwise; until then they exchange what is in
        host memory, and wait for each other as long as it takes (images are read at different speeds). After
        it an operation that takes longer than `timeout` is an error.
        `torch.distributed.destroy_process_group` leaves them. `store`: by which they find each other, if not
        by that of the environment.
        """
        on_card = device.type == "cuda"
        if on_card:
            torch.cuda.set_device(device)
        backend = "cpu:gloo,cuda:nccl" if on_card else "gloo"
        number, size = (-1, -1) if store is None else (int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"]))
        dist.init_process_group(
            backend,
            timeout=timeout,
            store=store,
            rank=number,
            world_size=size,
            device_id=device if on_card else None,
        )
        group = dist.group.WORLD
        assert group is not None
        mesh = DeviceMesh.from_group(group, device.type, mesh_dim_names=("frames",))
        patient = dist.new_group(backend="gloo", timeout=_PATIENCE)
        return cls(mesh, FrameSplit((1,) * dist.get_world_size(), dist.get_rank()), patient=patient)

    def with_split(self, frames: int, together: int = 1, ring: bool = False) -> MeshRanks | None:
        everyone = self.split.ranks
        split = FrameSplit.of(frames, everyone, self.split.rank, together)
        active = min(everyone, -(-frames // together))
        if split is not None and active == everyone:
            return MeshRanks(self.mesh, split, ring)
        members = dist.get_process_group_ranks(self.mesh.get_group())[:active]
        # A group of its own has gloo beside NCCL; one that a mesh splits off need not.
        group = dist.new_group(members, use_local_synchronization=False)
        if split is None:
            return None
        mesh = DeviceMesh.from_group(group, self.mesh.device_type, mesh_dim_names=("frames",))
        return MeshRanks(mesh, split, ring)

    def _all_gather(self, x: Tensor, sizes: Sequence[int]) -> Pending:
        joined = x.new_empty(sum(sizes), *x.shape[1:])
        if len(set(sizes)) == 1:
            works = [_all_gather(_bytes(joined), _bytes(x), group=self._group, async_op=True)]
        else:  # gloo's gather takes equal sizes only, and NCCL's does the same inside
            parts = joined.split(list(sizes))
            parts[self.split.rank].copy_(x)
            works = [
                dist.broadcast(_bytes(part), group_src=rank, group=self._group, async_op=True)
                for rank, part in enumerate(parts)
                if part.numel()
            ]

        def wait(sent: Tensor = x) -> Tensor:  # `sent` must live until then
            for work in works:
                work.wait()
            return joined

        return Pending(wait)

    def _all_reduce(self, x: Tensor) -> Tensor:
        total = x.clone()
        dist.all_reduce(total, group=self._group)
        return total

    def _to_next(self, x: Tensor, like: Sequence[int]) -> Pending:
        ranks, rank = self.split.ranks, self.split.rank
        arriving = x.new_empty(*like)
        operations = [
            dist.P2POp(dist.isend, _bytes(x), group=self._group, group_peer=(rank + 1) % ranks),
            dist.P2POp(dist.irecv, _bytes(arriving), group=self._group, group_peer=(rank - 1) % ranks),
        ]
        works = dist.batch_isend_irecv(operations)

        def wait(sent: Tensor = x) -> Tensor:
            for work in works:
                work.wait()
            return arriving

        return Pending(wait)


def _bytes(x: Tensor) -> Tensor:
    """The bytes of a contiguous tensor, which travel whatever its type."""
    return x.view(-1).view(torch.uint8)
