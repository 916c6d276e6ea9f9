"""AVGGT (arXiv 2512.02541): early global layers attend within frames, later ones to a coarser grid of keys.

Training-free. The paper's steps, and where they are here:

1. "G2F": global layers before `early` attend within frames, with their own weights. 9 of VGGT's 24 layers,
   10 of π³'s 18 (`Avggt.layers`).
2. "Subsampled global attention" in all other layers: all queries; as keys and values all special tokens, the
   whole first frame (VGGT; π³ has none), and the first patch of each window of the other frames (`GridKeys`).
3. Diagonal and mean (`DiagonalMean`). With the kept tokens K and the dropped ones D, the output of query i
   is one softmax over {q_i·k_j/√d, j in K}, q_i·k_i/√d (only if i in D) and q_i·k̄/√d, applied to v_j, v_i
   and v̄; k̄ and v̄ are means over D.

Its ablation "G2M" replaces step 1: early layers see one mean token (`early_keys="mean"`, `MeanKeys`). What
the paper leaves open, and how we read it: docs/methods/avggt.md.
"""

from __future__ import annotations

import dataclasses
import math
from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor

from ..dense import NoFill
from ..global_attention import SAME_FRAME, GlobalAttention
from ..index_cache import kept_for_later
from ..layout import TokenLayout
from ..preset import Preset
from ..protocols import Exchange, Fill, Keys, KeySet, LayerInput, Queries, QuerySet
from ..softmax.logsumexp import attend_with_lse
from ..softmax.terms import MeanTerm, OwnTerm, merge_terms
from ..softmax.weighted import attend_weighted, weighted_width
from ..subsampling import SubsampledKeys

_EARLY = {24: 9, 18: 10}  # published: VGGT and pi3
_EARLY_SHARE = 9 / 24


@dataclasses.dataclass(frozen=True)
class GridKeys(SubsampledKeys):
    """All special tokens, the whole reference frame, and one patch of each window of the other frames.

    `stride` is the window (rows, columns); its first (top-left) patch is kept. `edge`: windows that stick out
    of the grid keep their first patch ("ceil") or nothing ("floor"). `phase_shift` keeps another patch
    of the window in every frame, so that consecutive frames cover the grid together. A layout without
    reference frame (pi3) subsamples every frame.
    """

    stride: tuple[int, int] = (3, 3)
    edge: Literal["ceil", "floor"] = "ceil"
    phase_shift: bool = False
    project_all: bool = False
    keys_before_rope: bool = False

    def __post_init__(self) -> None:
        if len(self.stride) != 2 or min(self.stride) < 1:
            raise ValueError(f"stride must be two numbers from 1, rows and columns, not {self.stride}")
        if self.edge not in ("ceil", "floor"):
            raise ValueError(f"edge must be ceil or floor, not {self.edge!r}")

    @property
    def period(self) -> int:
        return math.prod(self.stride) if self.phase_shift else 1

    def kept(self, layout: TokenLayout) -> Bool[Tensor, " tokens"]:
        return _kept(layout, self.stride, self.edge, self.phase_shift)


@dataclasses.dataclass(frozen=True)
class MeanKeys(Keys):
    """One key and one value, the means over all tokens of all frames: every token gets the mean value."""

    def select(self, layer: LayerInput) -> KeySet:
        # The mean value is the mean token's; a softmax over one key is one whatever the key.
        ranks, x = layer.run.ranks, layer.tokens
        if ranks is None:
            mean = x.mean(1, keepdim=True)
        else:
            total = ranks.sum(x.sum(1, keepdim=True, dtype=torch.promote_types(x.dtype, torch.float32)))
            mean = (total / layer.whole.tokens).to(x.dtype)
        return KeySet(*layer.attention.keys_values(mean), joined=1)

    def count(self, layout: TokenLayout) -> float:
        return 1

    def projected(self, layout: TokenLayout) -> float:
        return 1

    def exchange(self, whole: TokenLayout, num_heads: int, dim: int) -> Exchange:
        return Exchange(numbers=2 * dim)


@dataclasses.dataclass(frozen=True)
class DiagonalMean(Fill):
    """In the same softmax: each dropped token's own key, and one mean key and value of all dropped tokens.

    The own key is absent where the token is among the kept keys. `gain` adds gain * log(number dropped) to
    the logit of the mean. `mean_before_positions` averages keys that were not rotated; the mean then has no
    position.
    """

    diagonal: bool = True
    mean: bool = True
    gain: float = 0.0
    mean_before_positions: bool = False

    def check(self, queries: Queries, keys: Keys, fill: Fill) -> None:
        if not keys.project_all:
            raise ValueError(f"the diagonal and the mean need keys with project_all, not {keys}")
        if self.mean_before_positions and not keys.keys_before_rope:
            raise ValueError(f"mean_before_positions needs keys with keys_before_rope, not {keys}")
        if self.diagonal and not queries.every_token:
            raise ValueError("merged queries have no key of their own: use diagonal=False")

    def for_merged_queries(self) -> Fill:
        return dataclasses.replace(self, diagonal=False) if self.mean else NoFill()

    def attention_flops(
        self, queries: float, keys: float, layout: TokenLayout, dim: int, head_dim: int
    ) -> float:
        """With the keys of the two terms; where heads differ in length, the mean's weight takes channels."""
        if keys >= layout.tokens or not (self.diagonal or self.mean):
            return 4.0 * queries * keys * dim
        weighted = self.gain != 0 and queries < layout.tokens
        width = weighted_width(head_dim, weighted) / head_dim
        return 4.0 * queries * (keys + self.mean + self.diagonal) * dim * width

    def attend(self, layer: LayerInput, queries: QuerySet, keys: KeySet) -> Float[Tensor, "b h queries d"]:
        assert keys.kept is not None and keys.all_keys is not None and keys.all_values is not None
        if keys.dropped == 0 or not (self.diagonal or self.mean):
            return NoFill().attend(layer, queries, keys)
        without_own = keys.kept if keys.hidden is None else keys.kept | keys.hidden
        own, mean = None, None
        if self.mean:
            source = keys.keys_before_rope if self.mean_before_positions else keys.all_keys
            assert source is not None
            key, value = _means((source, keys.all_values), ~without_own, keys.dropped, layer)
            mean = MeanTerm(key, value, self.gain * math.log(keys.dropped))
        if queries.lengths is not None:
            assert mean is not None
            return _attend_with_mean(queries, keys, mean)
        if self.diagonal:
            absent = without_own.expand(len(queries.q), -1)
            own = OwnTerm(keys.all_values, key=keys.all_keys, absent=absent)
        shared, lse = attend_with_lse(queries.q, keys.k, keys.v)
        return merge_terms(queries.q, shared, lse, own, mean, kernels=layer.run.kernels)

    def exchange(self, whole: TokenLayout, num_heads: int, dim: int) -> Exchange:
        """The sums of keys and of values."""
        return Exchange(numbers=4 * dim if self.mean else 0)


def _means(
    averaged: tuple[Tensor, Tensor], among: Bool[Tensor, " tokens"], count: int, layer: LayerInput
) -> tuple[Float[Tensor, "batch heads dim"], Float[Tensor, "batch heads dim"]]:
    """Means over the `count` tokens of the scene, of which this rank has those that are `among` its own."""
    layout, ranks = layer.layout, layer.run.ranks
    sums = [_scaled_sum(x, among, layout) for x in averaged]
    if ranks is not None:
        sums = list(ranks.sum(torch.stack(sums)).unbind())
    key, value = (x * (_parts(layout) / count) for x in sums)
    return key, value


def _scaled_sum(
    x: Float[Tensor, "batch heads tokens dim"], among: Bool[Tensor, " tokens"], layout: TokenLayout
) -> Float[Tensor, "batch heads dim"]:
    """Sum over the tokens that are `among` them, divided by `_parts`, in single precision or better.

    The sums of a frame are products, which read `x` where it lies. They are taken of parts of a power of two,
    so that half precision holds them; frames are added in single precision.
    """
    wide = torch.promote_types(x.dtype, torch.float32)
    sums: Tensor
    share = (among.to(x.dtype) / _parts(layout)).view(layout.frames, 1, -1)
    if x.stride(1) < x.stride(2):  # heads of a token beside each other
        rows = x.transpose(1, 2).flatten(2).unflatten(1, (layout.frames, -1))
        sums = (share @ rows).sum(1, dtype=wide)[:, 0].unflatten(1, (x.shape[1], -1))
    else:
        sums = (share @ x.unflatten(2, (layout.frames, -1))).sum(2, dtype=wide)[:, :, 0]
    return sums


def _parts(layout: TokenLayout) -> int:
    return 1 << layout.tokens_per_frame.bit_length()


def _attend_with_mean(queries: QuerySet, keys: KeySet, mean: MeanTerm) -> Tensor:
    """With heads of several lengths, whose terms lie apart, the mean is one of the shared keys."""
    k, v = (
        torch.cat([x, y[:, :, None].to(x.dtype)], 2) for x, y in ((keys.k, mean.key), (keys.v, mean.value))
    )
    weight = None
    if mean.log_weight:
        weight = F.pad(k.new_zeros(keys.k.shape[2]), (0, 1), value=mean.log_weight)
    return attend_weighted(queries.q, k, v, weight, queries.lengths, queries.longest)


@dataclasses.dataclass(frozen=True)
class Avggt(Preset):
    """Steps 1 to 3. `early` None: the published number of layers, or VGGT's share of another depth.

    `early_keys`: early layers attend within frames ("frame", G2F) or to one mean token ("mean", G2M).
    `diagonal` and `mean` both false is the plain subsample. See `GridKeys` and `DiagonalMean` for the rest.
    """

    name = "avggt"
    paper = "AVGGT (arXiv 2512.02541)"
    about = "early layers attend within frames, later ones to a coarser grid of keys"

    early: int | None = None
    stride: tuple[int, int] = (3, 3)
    edge: Literal["ceil", "floor"] = "ceil"
    phase_shift: bool = False
    diagonal: bool = True
    mean: bool = True
    gain: float = 0.0
    mean_before_positions: bool = False
    early_keys: Literal["frame", "mean"] = "frame"

    def layers(self, depth: int) -> tuple[GlobalAttention, ...]:
        early = _EARLY.get(depth, round(depth * _EARLY_SHARE)) if self.early is None else self.early
        self.check_layers(depth, early=early)
        before_rope = self.mean and self.mean_before_positions
        filled = self.diagonal or self.mean
        keys = GridKeys(self.stride, self.edge, self.phase_shift, filled, before_rope)
        terms = DiagonalMean(self.diagonal, self.mean, self.gain, self.mean_before_positions)
        layer = GlobalAttention(keys=keys, fill=terms if filled else NoFill())
        first = SAME_FRAME if self.early_keys == "frame" else GlobalAttention(keys=MeanKeys())
        return (first,) * early + (layer,) * (depth - early)


@kept_for_later
def _kept(
    layout: TokenLayout, stride: tuple[int, int], edge: str, phase_shift: bool
) -> Bool[Tensor, " tokens"]:
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


def _on_stride(
    places: Int[Tensor, " places"], phase: Int[Tensor, " frames"], stride: int, edge: str
) -> Bool[Tensor, "frames places"]:
    """Whether a row or column holds the kept patch of its window."""
    kept = places % stride == phase[:, None]
    whole = len(places) - len(places) % stride
    return kept & (places < whole) if edge == "floor" else kept
