"""FlashVGGT: keys and values from a few descriptors of each frame instead of all its patches."""

from __future__ import annotations

import dataclasses
import functools
import math
from typing import Any, Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor

from ..errors import UsageError
from .index_cache import for_later_calls
from .keyframes import cluster_count, cluster_members, full_frame_count
from .layout import TokenLayout
from .protocols import KeySet, LayerInput


@dataclasses.dataclass(frozen=True)
class DescriptorKeys:
    """Special tokens and resized patches of all frames, and all patches of a few frames.

    The normalised tokens of a frame are resized to floor(rows / r) x floor(columns / r) (at least one)
    before they are projected, at the positions of the nearest tokens. `resample` is "bilinear" (first
    release), "nearest" (later release: single tokens, so subsampling after the positions is the same) or
    "learnt" (the weights' own convolution, see `SpatialCompressor`).
    The reference frame and `keyframes` clusters' frames (None: a cluster per 200 frames; below two: none)
    are added whole. `duplicates` keeps what the published code sees twice: descriptors of frames
    that are there whole, and a frame chosen twice. `count_bias` times the log of the patches that a
    descriptor stands for is added to its logits (the paper: 0).
    Source: FlashVGGT (arXiv 2512.01540), section 3 and both public releases.
    """

    reduction: int = 4
    resample: Literal["bilinear", "nearest", "learnt"] = "bilinear"
    keyframes: int | None = None
    count_bias: float = 0.0
    duplicates: bool = True

    def __post_init__(self) -> None:
        if self.reduction < 1:
            raise ValueError(f"descriptors need a reduction of at least 1, got {self.reduction}")
        if self.resample not in ("bilinear", "nearest", "learnt"):
            raise ValueError(f"descriptors are resampled bilinear, nearest or learnt, not {self.resample!r}")
        if self.keyframes is not None and self.keyframes < 0:
            raise ValueError(f"the number of keyframes cannot be negative, got {self.keyframes}")
        if not math.isfinite(self.count_bias):
            raise ValueError(f"the count bias must be a finite number, got {self.count_bias}")

    @property
    def needs_frame_features(self) -> bool:
        return self.keyframes is None or self.keyframes > 1

    def select(self, layer: LayerInput) -> KeySet:
        """Keys in the order: patches of whole frames, then for each frame specials and descriptors."""
        layout, tokens = layer.layout, layer.tokens
        frames = tokens.unflatten(1, (layout.frames, layout.tokens_per_frame))
        k, v, _ = shortened(layer, self.reduction, self.resample)
        whole = self._whole_frames(layer)
        if whole.shape[1]:
            patches = frames[..., layout.special_tokens :, :]
            batch = torch.arange(tokens.shape[0], device=tokens.device)[:, None]
            rotation = _at(layer.rotation, torch.arange(layout.special_tokens, layout.tokens_per_frame))
            piece = (
                None if layer.run.frames_per_chunk is None else layer.run.frames_per_chunk * patches.shape[2]
            )
            more = layer.attention.keys_values(patches[batch, whole].flatten(1, 2), rotation, piece)
            k, v = torch.cat([more[0], k], 2), torch.cat([more[1], v], 2)
        return KeySet(k, v, self._log_weight(layout, whole, k))

    def count(self, layout: TokenLayout) -> float:
        rows, columns = coarse_grid(layout.grid, self.reduction)
        whole = full_frame_count(layout, self.keyframes) * layout.patches_per_frame
        return layout.frames * (layout.special_tokens + rows * columns) + whole

    def projected(self, layout: TokenLayout) -> float:
        return self.count(layout)

    def _whole_frames(self, layer: LayerInput) -> Int[Tensor, "batch whole"]:
        """Frames that are there in full, chosen once per forward pass."""
        memory, name = layer.run.memory, ("descriptor frames", self.keyframes)
        if name not in memory:
            layout, batch = layer.layout, layer.tokens.shape[0]
            chosen = []
            if layout.reference_frame is not None:
                chosen.append(torch.full((batch, 1), layout.reference_frame, device=layer.tokens.device))
            clusters = cluster_count(layout, self.keyframes)
            if clusters:
                if layer.run.frame_features is None:
                    raise ValueError("keyframes are chosen by frame features, and the network gave none")
                chosen.append(cluster_members(layer.run.frame_features, clusters))
            empty = torch.zeros(batch, 0, dtype=torch.long, device=layer.tokens.device)
            memory[name] = torch.cat(chosen, 1) if chosen else empty
        return memory[name]

    def _log_weight(
        self, layout: TokenLayout, whole: Int[Tensor, "batch whole"], k: Tensor
    ) -> Float[Tensor, "batch one keys"] | None:
        if self.count_bias == 0 and (self.duplicates or not whole.shape[1]):
            return None
        rows, columns = coarse_grid(layout.grid, self.reduction)
        gain = self.count_bias * math.log(layout.patches_per_frame / (rows * columns))
        weight = torch.zeros(
            whole.shape[0], layout.frames, layout.special_tokens + rows * columns, device=k.device
        )
        weight[..., layout.special_tokens :] = gain
        full = torch.zeros(*whole.shape, layout.patches_per_frame, device=k.device)
        if not self.duplicates:
            there = (whole[..., None] == torch.arange(layout.frames, device=k.device)).any(1)
            weight[..., layout.special_tokens :].masked_fill_(there[..., None], float("-inf"))
            again = (whole[:, :, None] == whole[:, None]).tril(-1).any(2)
            full.masked_fill_(again[..., None], float("-inf"))
        return torch.cat([full.flatten(1), weight.flatten(1)], 1)[:, None]


def shortened(
    layer: LayerInput, reduction: int, resample: str = "bilinear"
) -> tuple[Float[Tensor, "batch heads keys dim"], Float[Tensor, "batch heads keys dim"], int]:
    """Keys and values of every frame's specials and descriptors, and how many a frame has."""
    layout = layer.layout
    frames = layer.tokens.unflatten(1, (layout.frames, layout.tokens_per_frame))
    if resample == "learnt":
        short = _compressed(layer, frames, reduction)
    else:
        short = _resized(frames, _taps(layout, reduction, resample))
    piece = None if layer.run.frames_per_chunk is None else layer.run.frames_per_chunk * short.shape[2]
    rotation = _at(layer.rotation, _nearest(layout, reduction))
    return *layer.attention.keys_values(short.flatten(1, 2), rotation, piece), short.shape[2]


def coarse_grid(grid: tuple[int, int], reduction: int) -> tuple[int, int]:
    """Rows and columns of a frame's descriptors."""
    return max(1, grid[0] // reduction), max(1, grid[1] // reduction)


def _at(rotation: Any, index: Tensor) -> Any:
    return None if rotation is None else rotation.select(index)


@functools.lru_cache(maxsize=64)
def _nearest(layout: TokenLayout, reduction: int) -> Int[Tensor, " short"]:
    """Tokens of a frame whose positions the shortened frame has: specials, then cells' upper left."""
    (rows, columns), size = layout.grid, coarse_grid(layout.grid, reduction)
    with for_later_calls():
        y = torch.arange(size[0]) * rows // size[0]
        x = torch.arange(size[1]) * columns // size[1]
        patches = layout.special_tokens + (y[:, None] * columns + x).flatten()
        return torch.cat([torch.arange(layout.special_tokens), patches])


@functools.lru_cache(maxsize=64)
def _taps(layout: TokenLayout, reduction: int, resample: str) -> tuple[tuple[Tensor, Tensor], ...]:
    """(tokens, weights) [short] whose weighted sum is the shortened frame; tokens with weight 1 pass."""
    nearest = _nearest(layout, reduction)
    with for_later_calls():
        if resample == "nearest":
            return ((nearest, torch.ones(len(nearest))),)
        axes = [_linear(n, m) for n, m in zip(layout.grid, coarse_grid(layout.grid, reduction), strict=True)]
        special = torch.arange(layout.special_tokens)
        taps = []
        for j, (y, wy) in enumerate(axes[0]):
            for i, (x, wx) in enumerate(axes[1]):
                weight = (wy[:, None] * wx).flatten()
                if i + j and not weight.any():
                    continue
                index = layout.special_tokens + (y[:, None] * layout.grid[1] + x).flatten()
                pass_on = torch.full((len(special),), float(i + j == 0))
                taps.append((torch.cat([special, index]), torch.cat([pass_on, weight])))
        return tuple(taps)


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
    compressor, layout = getattr(layer.attention, "spatial_compressor", None), layer.layout
    if compressor is None:
        raise UsageError("these weights have no learnt compressor: use flash or flash:version=v2")
    if compressor.reduction != reduction:
        raise UsageError(f"these weights' compressor reduces by {compressor.reduction}, not by {reduction}")
    if min(layout.grid) < reduction:
        raise UsageError(f"a grid of {layout.grid} patches is too small for a compressor of {reduction}")
    special, patches = frames[:, :, : layout.special_tokens], frames[:, :, layout.special_tokens :]
    short = compressor(patches.flatten(0, 1).unflatten(1, layout.grid)).unflatten(0, frames.shape[:2])
    return torch.cat([special, short], 2)


def _resized(
    frames: Float[Tensor, "batch frames tokens dim"], taps: tuple[tuple[Tensor, Tensor], ...]
) -> Float[Tensor, "batch frames short dim"]:
    if len(taps) == 1:  # nothing is averaged
        return frames[:, :, taps[0][0].to(frames.device)]
    total: Tensor | None = None
    for index, weight in taps:  # at most four; summed in single precision or better
        part = frames[:, :, index.to(frames.device)]
        part = part.to(torch.promote_types(part.dtype, torch.float32)) * weight.to(frames.device)[:, None]
        total = part if total is None else total + part
    assert total is not None
    return total.to(frames.dtype)
