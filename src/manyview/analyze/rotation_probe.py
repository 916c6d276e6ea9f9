"""Rotation probe: whether attention follows the content of images rotated by 180 degrees."""

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
) -> Int[Tensor, "heads others chosen"]:
    """The patch of the strongest key in each of the chosen `frames`, for queries of the others.

    `queries` are (frame, patch); those of chosen frames are left out. Only patch numbers are kept.
    """
    sampled = q[:, rows_of(queries[~frames[queries[:, 0]]], layout).to(q.device)].float()
    keys = k.unflatten(1, (layout.frames, -1))[:, frames.to(k.device), layout.special_tokens :]
    per_frame = keys.shape[1], keys.shape[2]
    flat = keys.flatten(1, 2).float().transpose(1, 2)
    parts = sampled.split(queries_at_once(flat.shape[0], flat.shape[-1]), 1)
    found = [(part @ flat).unflatten(-1, per_frame).argmax(-1).to(torch.int32).cpu() for part in parts]
    return torch.cat(found, 1)


def follows(
    upright: Int[Tensor, "heads queries frames"],
    rotated: Int[Tensor, "heads queries frames"],
    grid: tuple[int, int],
) -> tuple[float, float]:
    """Shares of strongest keys that moved with the rotated image, and that stayed in place.

    Compares the strongest patches of a frame before and after it was rotated by 180 degrees: at most one
    patch from the rotated position of the earlier patch (content), or from its position (place). Patches
    that the rotation moves by at most two positions are left out. NaN if none is left.
    """
    moved = grid[0] * grid[1] - 1 - upright
    distinct = ~_near(upright, moved, grid, 2)
    if not distinct.any():
        return float("nan"), float("nan")
    content, place = (
        _near(rotated, where, grid, 1)[distinct].float().mean().item() for where in (moved, upright)
    )
    return content, place


def _near(a: Tensor, b: Tensor, grid: tuple[int, int], most: int) -> Tensor:
    columns = grid[1]
    return ((a // columns - b // columns).abs() <= most) & ((a % columns - b % columns).abs() <= most)
