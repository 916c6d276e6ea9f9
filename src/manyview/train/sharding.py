"""Weights, gradients and optimiser state shared out among the processes of a run (FSDP2, `fully_shard`).

Each process keeps its rows of every parameter. A block's weights are gathered when it runs, forward and
backward, and its gradients are averaged and shared out again. All functions take plain tensors too, for
which they do the plain thing; those marked collective must be called by all processes together.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor

from ..models.encoder import DinoEncoder
from ..models.vggt.model import VGGT


def shard(model: VGGT, device: str | torch.device, processes: int) -> None:
    """Share out the parameters in place: each block of encoder and trunk is a unit, the rest another."""
    # It warns of outputs that are views, in case they are written to; predictions are read only.
    warnings.filterwarnings("ignore", message="FSDP2-wrapped module .* returned a view tensor")
    kind = torch.device(device).type
    mesh = init_device_mesh(kind, (processes,))
    trunk = model.aggregator
    encoder = trunk.patch_embed.blocks if isinstance(trunk.patch_embed, DinoEncoder) else ()
    for block in (*encoder, *trunk.frame_blocks, *trunk.global_blocks):
        assert isinstance(block, nn.Module)
        fully_shard(block, mesh=mesh)
    # Left whole after a pass without gradients, the rest would not see what is written to its parts later.
    fully_shard(model, mesh=mesh, reshard_after_forward=True)


def is_sharded(tensor: Tensor) -> bool:
    """Whether this process holds a part of the tensor only."""
    return isinstance(tensor, DTensor)


def own_part(tensor: Tensor) -> Tensor:
    """What this process holds, to be read or written in place."""
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


def whole(tensor: Tensor) -> Tensor:
    """The tensor put together from all processes. Collective."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def part_like(tensor: Tensor, like: Tensor) -> Tensor:
    """A whole tensor that all processes hold, shared out as `like` is."""
    tensor = tensor.to(like.device)
    if not isinstance(like, DTensor):
        return tensor
    return distribute_tensor(tensor, like.device_mesh, like.placements, src_data_rank=None)


@torch.no_grad()
def clip_gradients(parameters: Iterable[Tensor], limit: float) -> float:
    """Shorten the gradient of all parameters together to `limit`; its length before. Collective."""
    gradients = [p.grad for p in parameters if p.grad is not None]
    if not any(is_sharded(gradient) for gradient in gradients):
        length = torch.nn.utils.get_total_norm(gradients)
        own = gradients
    else:
        parts = [own_part(g) for g in gradients if is_sharded(g)]
        shared = torch.stack([part.float().square().sum() for part in parts]).sum()
        dist.all_reduce(shared)
        rest = [g.float().square().sum() for g in gradients if not is_sharded(g)]
        length = torch.stack([shared, *rest]).sum().sqrt()
        own = [own_part(g) for g in gradients]
    scale = (limit / (length + 1e-6)).clamp(max=1.0)
    for gradient in own:
        gradient.mul_(scale.to(gradient.dtype))
    return float(length)
