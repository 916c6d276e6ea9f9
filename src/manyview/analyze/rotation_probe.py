"""The 180-degree probe: turn some pictures and see whether attention moves with them or stays in place."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from ..attention.layout import TokenLayout
from .tiles import queries_at_once, rows_of


def strongest_patches(
    q: Float[Tensor, "heads tokens dim"],
    k: Float[Tensor, "heads tokens dim"],
    layout: TokenLayout,
    queries: Int[Tensor, "queries 2"],
    frames: Bool[Tensor, " frames"],
) -> Int[Tensor, "heads queries chosen"]:
    """The patch of the strongest key in each of the chosen `frames`, for queries of the others.

    `queries` are (frame, patch); those of chosen frames are left out. Only patch numbers are kept.
    """
    asked = q[:, rows_of(queries[~frames[queries[:, 0]]], layout).to(q.device)].float()
    keys = k.unflatten(1, (layout.frames, -1))[:, frames.to(k.device), layout.special_tokens :]
    per_frame = keys.shape[1], keys.shape[2]
    turned = keys.flatten(1, 2).float().transpose(1, 2)
    parts = asked.split(queries_at_once(turned.shape[0], turned.shape[-1]), 1)
    found = [(part @ turned).unflatten(-1, per_frame).argmax(-1).to(torch.int32).cpu() for part in parts]
    return torch.cat(found, 1)


def follows(
    upright: Int[Tensor, "heads queries frames"],
    turned: Int[Tensor, "heads queries frames"],
    grid: tuple[int, int],
) -> tuple[float, float]:
    """Shares of strongest keys that moved with the turned picture, and that stayed in place.

    Compares the strongest patches of a frame before and after it was turned by 180 degrees: at most one
    patch from where the turn takes the earlier patch (content), or from the earlier patch itself (place).
    Patches that the turn moves by two places or fewer tell nothing and are left out. NaN if none is left.
    """
    moved = grid[0] * grid[1] - 1 - upright
    telling = ~_near(upright, moved, grid, 2)
    if not telling.any():
        return float("nan"), float("nan")
    content, place = (
        _near(turned, where, grid, 1)[telling].float().mean().item() for where in (moved, upright)
    )
    return content, place


def _near(a: Tensor, b: Tensor, grid: tuple[int, int], most: int) -> Tensor:
    columns = grid[1]
    return ((a // columns - b // columns).abs() <= most) & ((a % columns - b % columns).abs() <= most)
