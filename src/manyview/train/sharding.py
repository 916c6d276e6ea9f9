"""Weights, gradients and optimiser state sharded over the processes of a run (FSDP2, `fully_shard`).

All functions take plain tensors too, which are whole; those marked collective must be called by all
processes together.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor

from ..errors import UsageError
from ..models.vggt.model import VGGT
from .model_setup import encoder_and_frame_blocks


def shard(model: VGGT, device: str | torch.device, processes: int) -> None:
    """Shard the parameters in place: each block of encoder and trunk is a unit, the rest another.

    UsageError with PyTorch before 2.13: 2.11 frees weights that the backward pass still needs.
    """
    if torch.__version__ < "2.13":
        raise UsageError(
            f"sharded training needs PyTorch 2.13 or later, and this is {torch.__version__}: "
            "train without --shard"
        )
    # It warns about outputs that are views; predictions are not written to.
    warnings.filterwarnings("ignore", message="FSDP2-wrapped module .* returned a view tensor")
    kind = torch.device(device).type
    mesh = init_device_mesh(kind, (processes,))
    for block in (*encoder_and_frame_blocks(model), *model.aggregator.global_blocks):
        fully_shard(block, mesh=mesh)
    # Without resharding after a pass without gradients, later writes to the shards would be lost.
    fully_shard(model, mesh=mesh, reshard_after_forward=True)


def is_sharded(tensor: Tensor) -> bool:
    """Whether this process holds only a shard of the tensor."""
    return isinstance(tensor, DTensor)


def local_part(tensor: Tensor) -> Tensor:
    """The shard of this process, to be read or written in place."""
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


def full_tensor(tensor: Tensor) -> Tensor:
    """The full tensor from the shards of all processes. Collective."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def shard_like(tensor: Tensor, like: Tensor) -> Tensor:
    """A full tensor that all processes hold, sharded like `like`."""
    tensor = tensor.to(like.device)
    if not isinstance(like, DTensor):
        return tensor
    return distribute_tensor(tensor, like.device_mesh, like.placements, src_data_rank=None)


@torch.no_grad()
def clip_gradients(parameters: Iterable[Tensor], limit: float) -> float:
    """Clip the norm of all gradients together to `limit`; returns the norm before. Collective."""
    gradients = [p.grad for p in parameters if p.grad is not None]
    local = [local_part(g) for g in gradients]
    if not any(is_sharded(gradient) for gradient in gradients):
        norm = torch.nn.utils.get_total_norm(gradients)
    else:
        parts = [local_part(g) for g in gradients if is_sharded(g)]
        shared = torch.stack([part.float().square().sum() for part in parts]).sum()
        dist.all_reduce(shared)
        rest = [g.float().square().sum() for g in gradients if not is_sharded(g)]
        norm = torch.stack([shared, *rest]).sum().sqrt()
    scale = (limit / (norm + 1e-6)).clamp(max=1.0)
    for gradient in local:
        gradient.mul_(scale.to(gradient.dtype))
    return float(norm)
