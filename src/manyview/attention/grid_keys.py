"""Keys and values on a coarser patch grid (AVGGT, arXiv 2512.02541, "subsampled global attention")."""

from __future__ import annotations

import dataclasses
import functools
import math
from typing import Any, Literal

import torch
from jaxtyping import Bool
from torch import Tensor

from .layout import TokenLayout
from .protocols import KeySet, LayerInput


@dataclasses.dataclass(frozen=True)
class GridKeys:
    """All special tokens, the whole reference frame, and one patch of each window of the other frames.

    `stride` is the window (rows, columns); its first (top-left) patch is kept. `edge`: windows that stick out
    of the grid keep their first patch ("ceil") or nothing ("floor"). `phase_shift` keeps another patch
    of the window in every frame, so that consecutive frames cover the grid together. A layout without
    reference frame (pi3) subsamples every frame. `project_all` projects the dropped tokens too, for fills
    that need them; `unturned` also gives the keys without positions.
    """

    stride: tuple[int, int] = (3, 3)
    edge: Literal["ceil", "floor"] = "ceil"
    phase_shift: bool = False
    project_all: bool = False
    unturned: bool = False

    def __post_init__(self) -> None:
        if len(self.stride) != 2 or min(self.stride) < 1:
            raise ValueError(f"a grid stride is two numbers from 1, rows and columns, not {self.stride}")
        if self.edge not in ("ceil", "floor"):
            raise ValueError(f"edge must be ceil or floor, not {self.edge!r}")

    def select(self, layer: LayerInput) -> KeySet:
        mask = kept_tokens(layer.layout, self.stride, self.edge, self.phase_shift).to(layer.tokens.device)
        index = mask.nonzero()[:, 0]
        if not self.project_all:
            rotation = None if layer.rotation is None else layer.rotation.select(index)
            k, v = layer.attention.keys_values(layer.tokens[:, index], rotation)
            return KeySet(k, v, kept=mask, kept_index=index)
        k, v = layer.attention.keys_values(layer.tokens, layer.rotation, layer.piece)
        plain = layer.attention.keys_values(layer.tokens, None, layer.piece)[0] if self.unturned else None
        return KeySet(
            k[:, :, index],
            v[:, :, index],
            kept=mask,
            kept_index=index,
            all_keys=k,
            all_values=v,
            unturned_keys=plain,
        )

    def count(self, layout: TokenLayout) -> float:
        return float(kept_tokens(layout, self.stride, self.edge, self.phase_shift).sum())

    def projected(self, layout: TokenLayout) -> float:
        return layout.tokens if self.project_all else self.count(layout)


@functools.lru_cache(maxsize=32)
def kept_tokens(
    layout: TokenLayout, stride: tuple[int, int], edge: str = "ceil", phase_shift: bool = False
) -> Bool[Tensor, " tokens"]:
    """Which tokens of the sequence stay keys."""
    rows, columns = (torch.arange(n) for n in layout.grid)
    frame = torch.arange(layout.frames) if phase_shift else torch.zeros(layout.frames, dtype=torch.long)
    phase = frame % (stride[0] * stride[1])
    row_kept = _on_stride(rows, phase // stride[1], stride[0], edge)
    column_kept = _on_stride(columns, phase % stride[1], stride[1], edge)
    patches = (row_kept[:, :, None] & column_kept[:, None]).flatten(1)
    if layout.reference_frame is not None:
        patches[layout.reference_frame] = True
    specials = torch.ones(layout.frames, layout.special_tokens, dtype=torch.bool)
    return torch.cat([specials, patches], 1).flatten()


def _on_stride(places: Tensor, phase: Tensor, stride: int, edge: str) -> Tensor:
    """[frames, places]: whether a row or column holds the kept patch of its window."""
    kept: Any = places % stride == phase[:, None]
    if edge == "floor":
        whole = math.floor(len(places) / stride) * stride
        kept = kept & (places < whole)
    return kept
