"""Frames shortened to a few descriptors: special tokens and patches resized to a coarser grid."""

from __future__ import annotations

import math
from typing import Literal, get_args

import torch
from jaxtyping import Float, Int
from torch import Tensor

from ..errors import UsageError
from .index_cache import kept_for_later
from .layout import TokenLayout
from .protocols import LayerInput

Resample = Literal["bilinear", "nearest", "average", "learnt"]


def check_descriptors(reduction: int, resample: str, count_bias: float) -> None:
    """Raises ValueError for options that no descriptors have."""
    if reduction < 1:
        raise ValueError(f"descriptors need a reduction of at least 1, got {reduction}")
    if resample not in get_args(Resample):
        raise ValueError(f"descriptors are resampled {', '.join(get_args(Resample))}, not {resample!r}")
    if not math.isfinite(count_bias):
        raise ValueError(f"count_bias must be a finite number, got {count_bias}")


def shortened(
    layer: LayerInput, reduction: int, resample: str = "bilinear"
) -> tuple[Float[Tensor, "batch heads keys dim"], Float[Tensor, "batch heads keys dim"]]:
    """Keys and values of every frame's special tokens and descriptors, frame by frame."""
    frames = layer.tokens.unflatten(1, (layer.layout.frames, -1))
    if resample == "learnt":
        short = _compressed(layer, frames, reduction)
    elif resample == "average":
        short = _averaged(layer.layout, frames, reduction)
    else:
        short = _resized(frames, layer.on_device(_corners, layer.layout, reduction, resample))
    rotation = layer.rotation
    if rotation is not None:
        rotation = rotation.select(layer.on_device(_nearest, layer.layout, reduction))
    return layer.attention.keys_values(short.flatten(1, 2), rotation, layer.chunk(short.shape[2]))


def tokens_per_short_frame(layout: TokenLayout, reduction: int) -> int:
    """Special tokens and descriptors of a frame."""
    return layout.special_tokens + math.prod(_coarse_grid(layout.grid, reduction))


@kept_for_later
def log_counts(layout: TokenLayout, reduction: int, count_bias: float) -> Float[Tensor, " short"]:
    """Log weights of a shortened frame: `count_bias` times the log of the patches of a descriptor."""
    weight = torch.zeros(tokens_per_short_frame(layout, reduction))
    cells = math.prod(_coarse_grid(layout.grid, reduction))
    weight[layout.special_tokens :] = count_bias * math.log(layout.patches_per_frame / cells)
    return weight


@kept_for_later
def patch_places(layout: TokenLayout) -> Int[Tensor, " patches"]:
    """Places of the patches among the tokens of a frame."""
    return torch.arange(layout.special_tokens, layout.tokens_per_frame)


def _coarse_grid(grid: tuple[int, int], reduction: int) -> tuple[int, int]:
    return max(1, grid[0] // reduction), max(1, grid[1] // reduction)


@kept_for_later
def _nearest(layout: TokenLayout, reduction: int) -> Int[Tensor, " short"]:
    """Tokens of a frame whose positions the shortened frame has: specials, then cells' upper left."""
    (rows, columns), size = layout.grid, _coarse_grid(layout.grid, reduction)
    y = torch.arange(size[0]) * rows // size[0]
    x = torch.arange(size[1]) * columns // size[1]
    patches = layout.special_tokens + (y[:, None] * columns + x).flatten()
    return torch.cat([torch.arange(layout.special_tokens), patches])


@kept_for_later
def _corners(layout: TokenLayout, reduction: int, resample: str) -> tuple[tuple[Tensor, Tensor], ...]:
    """(tokens, weights) [short] whose weighted sum is the shortened frame; tokens with weight 1 pass."""
    nearest = _nearest(layout, reduction)
    if resample == "nearest":
        return ((nearest, torch.ones(len(nearest))),)
    axes = [_linear(n, m) for n, m in zip(layout.grid, _coarse_grid(layout.grid, reduction), strict=True)]
    special = torch.arange(layout.special_tokens)
    corners = []
    for j, (y, wy) in enumerate(axes[0]):
        for i, (x, wx) in enumerate(axes[1]):
            weight = (wy[:, None] * wx).flatten()
            if i + j and not weight.any():
                continue
            index = layout.special_tokens + (y[:, None] * layout.grid[1] + x).flatten()
            pass_on = torch.full((len(special),), float(i + j == 0))
            corners.append((torch.cat([special, index]), torch.cat([pass_on, weight])))
    return tuple(corners)


def _linear(size: int, target: int) -> list[tuple[Tensor, Tensor]]:
    """Both neighbours of each target and their weights, pixel centres at half, edges repeated."""
    at = ((torch.arange(target, dtype=torch.float64) + 0.5) * size / target - 0.5).clamp(min=0)
    low = at.floor().long()
    share = (at - low).float()
    return [(low, 1 - share), ((low + 1).clamp(max=size - 1), share)]


def _compressed(
    layer: LayerInput, frames: Float[Tensor, "batch frames tokens dim"], reduction: int
) -> Float[Tensor, "batch frames short dim"]:
    """Specials, and patches through the convolution that the weights bring for this layer."""
    compressor, layout = layer.attention.spatial_compressor, layer.layout
    if compressor is None:
        raise UsageError("these weights have no learnt compressor: use flash or flash:version=v2")
    if compressor.reduction != reduction:
        raise UsageError(f"these weights' compressor reduces by {compressor.reduction}, not by {reduction}")
    if min(layout.grid) < reduction:
        raise UsageError(f"a grid of {layout.grid} patches is too small for a compressor of {reduction}")
    special, patches = frames[:, :, : layout.special_tokens], frames[:, :, layout.special_tokens :]
    short = compressor(patches.flatten(0, 1).unflatten(1, layout.grid)).unflatten(0, frames.shape[:2])
    return torch.cat([special, short], 2)


def _averaged(
    layout: TokenLayout, frames: Float[Tensor, "batch frames tokens dim"], reduction: int
) -> Float[Tensor, "batch frames short dim"]:
    """Specials, and means of whole windows of patches; rows and columns beyond them are in none."""
    (rows, columns), (height, width) = layout.grid, _coarse_grid(layout.grid, reduction)
    window = min(reduction, rows), min(reduction, columns)
    patches = frames[:, :, layout.special_tokens :].unflatten(2, layout.grid)
    whole = patches[:, :, : height * window[0], : width * window[1]]
    means = whole.unflatten(3, (width, -1)).unflatten(2, (height, -1)).mean((3, 5))
    return torch.cat([frames[:, :, : layout.special_tokens], means.flatten(2, 3)], 2)


def _resized(
    frames: Float[Tensor, "batch frames tokens dim"], corners: tuple[tuple[Tensor, Tensor], ...]
) -> Float[Tensor, "batch frames short dim"]:
    if len(corners) == 1:  # nothing is averaged
        return frames[:, :, corners[0][0]]
    total: Tensor | None = None
    for index, weight in corners:  # at most four; weights of single precision make the sums so
        part = frames[:, :, index]
        total = part * weight[:, None] if total is None else torch.addcmul(total, part, weight[:, None])
    assert total is not None
    return total.to(frames.dtype)
