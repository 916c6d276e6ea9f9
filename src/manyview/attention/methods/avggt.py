"""AVGGT: early global layers see their own frame, later ones keys on a coarser grid."""

from __future__ import annotations

import dataclasses
import functools
import math
from typing import Any, Literal

import torch
from jaxtyping import Bool
from torch import Tensor

from ...errors import UsageError
from ..dense import NoFill, SameFrameKeys
from ..global_attention import GlobalAttention
from ..layout import TokenLayout
from ..protocols import KeySet, LayerInput, QuerySet
from ..softmax.extended import attend_extended, extended_width

_EARLY = {24: 9, 18: 10}  # published: VGGT and pi3


_EARLY_SHARE = 9 / 24


@dataclasses.dataclass(frozen=True)
class GridKeys:
    """All special tokens, the whole reference frame, and one patch of each window of the other frames.

    `stride` is the window (rows, columns); its first (top-left) patch is kept. `edge`: windows that stick out
    of the grid keep their first patch ("ceil") or nothing ("floor"). `phase_shift` keeps another patch
    of the window in every frame, so that consecutive frames cover the grid together. A layout without
    reference frame (pi3) subsamples every frame. `project_all` projects the dropped tokens too, for fills
    that need them; `keys_before_rope` also gives the keys without positions.
    """

    stride: tuple[int, int] = (3, 3)
    edge: Literal["ceil", "floor"] = "ceil"
    phase_shift: bool = False
    project_all: bool = False
    keys_before_rope: bool = False

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
        plain = (
            layer.attention.keys_values(layer.tokens, None, layer.piece)[0] if self.keys_before_rope else None
        )
        return KeySet(
            k[:, :, index],
            v[:, :, index],
            kept=mask,
            kept_index=index,
            all_keys=k,
            all_values=v,
            keys_before_rope=plain,
        )

    def count(self, layout: TokenLayout) -> float:
        return float(kept_tokens(layout, self.stride, self.edge, self.phase_shift).sum())

    def projected(self, layout: TokenLayout) -> float:
        return layout.tokens if self.project_all else self.count(layout)


@dataclasses.dataclass(frozen=True)
class DiagonalMean:
    """In the same softmax: each dropped token's own key, and one mean key and value of all dropped tokens.

    Source: AVGGT (arXiv 2512.02541), step 3. The own key is absent where the token is among the kept
    keys. `gain` adds gain * log(number dropped) to the logit of the mean (0: the literal reading).
    `mean_before_positions` averages keys that were not turned; the mean then has no position.
    """

    diagonal: bool = True
    mean: bool = True
    gain: float = 0.0
    mean_before_positions: bool = False

    def check(self, layer: GlobalAttention) -> None:
        """Refuse keys that do not tell what was dropped."""
        if not getattr(layer.keys, "project_all", False):
            raise ValueError(
                "the diagonal and the mean need keys that were subsampled with project_all, "
                f"not {type(layer.keys).__name__}"
            )
        if self.mean_before_positions and not getattr(layer.keys, "keys_before_rope", False):
            raise ValueError("a mean before positions needs keys selected with keys_before_rope")
        if self.diagonal and type(layer.queries).__name__ != "AllQueries":
            raise ValueError(
                "merged queries stand for several tokens and have no key of their own: use diagonal=False"
            )

    def attention_flops(
        self, queries: float, keys: float, layout: TokenLayout, dim: int, head_dim: int
    ) -> float:
        """Scores and weighted sums with the terms' extra keys and channels, for the cost before a run."""
        if keys >= layout.tokens or not (self.diagonal or self.mean):
            return 4.0 * queries * keys * dim
        width = extended_width(head_dim, self.mean and self.gain != 0, self.diagonal)
        return 4.0 * queries * (keys + self.mean + self.diagonal) * dim * width / head_dim

    def attend(self, queries: QuerySet, keys: KeySet, layer: LayerInput) -> Tensor:
        assert keys.kept is not None and keys.all_keys is not None and keys.all_values is not None
        dropped = ~keys.kept
        count = int(dropped.sum())
        if count == 0 or not (self.diagonal or self.mean):
            return attend_extended(
                queries.q, keys.k, keys.v, lengths=queries.lengths, kernels=layer.run.kernels
            )
        k, v, weight, self_logit, self_value = keys.k, keys.v, None, None, None
        if self.mean:
            share = dropped.to(v.dtype) / count
            source = keys.keys_before_rope if self.mean_before_positions else keys.all_keys
            assert source is not None
            k = torch.cat([k, torch.einsum("bhnd,n->bhd", source, share)[:, :, None]], 2)
            v = torch.cat([v, torch.einsum("bhnd,n->bhd", keys.all_values, share)[:, :, None]], 2)
            if self.gain != 0:
                weight = torch.zeros(k.shape[2], device=k.device, dtype=k.dtype)
                weight[-1] = self.gain * math.log(count)
        if self.diagonal:
            own = (queries.q * keys.all_keys).sum(-1, dtype=_at_least_single(k.dtype)) / k.shape[-1] ** 0.5
            self_logit = own.masked_fill(keys.kept, float("-inf"))
            self_value = keys.all_values
        return attend_extended(
            queries.q, k, v, weight, self_logit, self_value, queries.lengths, kernels=layer.run.kernels
        )


@dataclasses.dataclass(frozen=True)
class Avggt:
    """AVGGT (arXiv 2512.02541), training-free. `early` layers from the first see their own frame only.

    By default `early` is 9 of 24 layers (VGGT), 10 of 18 (pi3), and VGGT's share of another depth. See
    `GridKeys` and `DiagonalMean` for the rest; `diagonal` and `mean` both false is the plain subsample.
    """

    early: int | None = None
    stride: tuple[int, int] = (3, 3)
    edge: Literal["ceil", "floor"] = "ceil"
    phase_shift: bool = False
    diagonal: bool = True
    mean: bool = True
    gain: float = 0.0
    mean_before_positions: bool = False

    def layers(self, depth: int) -> tuple[GlobalAttention, ...]:
        early = _EARLY.get(depth, round(depth * _EARLY_SHARE)) if self.early is None else self.early
        if not 0 <= early <= depth:
            raise UsageError(f"avggt: early={early} is not a number of layers from 0 to {depth}")
        filled = self.diagonal or self.mean
        keys = GridKeys(
            self.stride,
            self.edge,
            self.phase_shift,
            project_all=filled,
            keys_before_rope=self.mean and self.mean_before_positions,
        )
        fill = (
            DiagonalMean(self.diagonal, self.mean, self.gain, self.mean_before_positions)
            if filled
            else NoFill()
        )
        frame = GlobalAttention(keys=SameFrameKeys())
        return (frame,) * early + (GlobalAttention(keys=keys, fill=fill),) * (depth - early)


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


def _at_least_single(dtype: torch.dtype) -> torch.dtype:
    return torch.promote_types(dtype, torch.float32)
