"""FastVGGT (arXiv 2509.02560): one merging of the whole sequence for queries, keys and values.

Training-free, in every global layer (`start`: from one on). Section 3 of the paper, and where it is here:

1. Destinations: all tokens of the reference frame, all special tokens, and one random patch of each 2x2
   window of the other frames (`_one_of_each_window`).
2. Protected tokens, every tenth of the sequence, are not merged (`_sequence_plan`).
3. Matching on the layer's normalised input: each of the other tokens with the destination of the largest
   cosine similarity; the best are merged, 0.9 of all tokens at most, into means (`SequenceMerge`). A third
   of VGGT's tokens is left.
4. Attention on the short sequence; outputs are copied to the merged tokens.

Where paper and released code differ or are silent: docs/methods/fastvggt.md.
"""

from __future__ import annotations

import dataclasses
import functools

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from ..global_attention import DENSE, GlobalAttention
from ..index_cache import kept_for_later
from ..layout import TokenLayout
from ..merging.blocks import MergeBlocks, MergePlan
from ..merging.matching import match
from ..merging.means import copy_back, means_of
from ..preset import Preset
from ..protocols import Exchange, Keys, KeySet, LayerInput, Queries, QuerySet


@dataclasses.dataclass(frozen=True)
class SequencePlan:
    """The roles of tokens; `protected` ones are appended to the merged sequence."""

    merge: MergePlan
    protected: Int[Tensor, " protected"]

    @property
    def slots(self) -> int:
        """Length of the short sequence."""
        return self.merge.slots + len(self.protected)


@dataclasses.dataclass(frozen=True)
class SequenceMerge(Queries, Keys):
    """Steps 1 to 4: at most a share `ratio` of all tokens is merged, a share `protect` protected.

    `sheared` and `half_scores` repeat mistakes of the released code. As queries and keys of one layer it is
    one merging. Matching costs the square of the sequence.
    """

    ratio: float = 0.9
    protect: float = 0.1
    window: tuple[int, int] = (2, 2)
    seed: int = 33
    sheared: bool = False
    half_scores: bool = False

    def __post_init__(self) -> None:
        if not (0 <= self.ratio <= 1 and 0 <= self.protect <= 1):
            raise ValueError(f"ratio and protect are shares from 0 to 1, got {self.ratio}, {self.protect}")
        if min(self.window) < 1:
            raise ValueError(f"a window is at least 1x1, got {self.window}")

    def plan(self, layout: TokenLayout) -> SequencePlan:
        """Roles of a layout's tokens; none where nothing is merged or protected."""
        return _sequence_plan(self, layout)

    def reduce(self, layer: LayerInput) -> QuerySet:
        q = layer.queries()
        if self._off(layer.layout):
            return QuerySet(q)
        restore = functools.partial(copy_back, slot=self.back(layer), kernels=layer.run.kernels)
        return QuerySet(self.shorten(layer, q), restore)

    def select(self, layer: LayerInput) -> KeySet:
        k, v = layer.keys_values()
        if self._off(layer.layout):
            return KeySet(k, v)
        return KeySet(self.shorten(layer, k), self.shorten(layer, v))

    def shorten(
        self, layer: LayerInput, x: Float[Tensor, "batch heads tokens dim"]
    ) -> Float[Tensor, "batch heads short dim"]:
        """Means of merged tokens, then the protected tokens."""
        plan = layer.on_device(_sequence_plan, self, layer.layout)
        means, _ = means_of(x, self._slots(layer)[0], plan.merge.slots + 1)
        return torch.cat([means[:, :, :-1], x[:, :, plan.protected]], 2)

    def back(self, layer: LayerInput) -> Int[Tensor, "batch one tokens"]:
        """Place in the short sequence whose output each token gets."""
        return self._slots(layer)[1]

    def _slots(self, layer: LayerInput) -> tuple[Tensor, Tensor]:
        """Slot that each token is averaged in, and slot whose output it gets; matched once a layer."""
        memory, plan = layer.run.memory, layer.on_device(_sequence_plan, self, layer.layout)
        found = memory.get(("merge", self))
        if found is None or found[0] != layer.run.layer:
            features = layer.tokens[:, None]
            if self.half_scores:
                features = (features / features.norm(dim=-1, keepdim=True)).bfloat16()
            into = match(features, plan.merge, self.half_scores, layer.run.kernels)
            back = into.clone()
            appended = torch.arange(len(plan.protected), device=back.device)
            back[..., plan.protected] = plan.merge.slots + appended
            found = memory["merge", self] = (layer.run.layer, into, back)
        return found[1], found[2]

    def _off(self, layout: TokenLayout) -> bool:
        plan = self.plan(layout)
        return plan.merge.slots == layout.tokens and not len(plan.protected)

    def exchange(self, whole: TokenLayout, num_heads: int, dim: int) -> Exchange:
        return Exchange(refused="merging matches tokens of the whole sequence")

    def count(self, layout: TokenLayout) -> float:
        return self.plan(layout).slots

    def extra(self, layout: TokenLayout, dim: int) -> float:
        return self.plan(layout).merge.matching_flops(dim)


@dataclasses.dataclass(frozen=True)
class FastVggt(Preset):
    """`SequenceMerge` in all layers from `start` on; the others stay dense."""

    name = "fastvggt"
    paper = "FastVGGT (arXiv 2509.02560)"
    about = "one merging for all heads, over the whole sequence"

    ratio: float = 0.9
    protect: float = 0.1
    window: tuple[int, int] = (2, 2)
    start: int = 0
    seed: int = 33
    sheared: bool = False
    half_scores: bool = False

    def layers(self, depth: int) -> tuple[GlobalAttention, ...]:
        self.check_layers(depth, start=self.start)
        merge = SequenceMerge(
            self.ratio, self.protect, self.window, self.seed, self.sheared, self.half_scores
        )
        return (DENSE,) * self.start + (GlobalAttention(merge, merge),) * (depth - self.start)


@kept_for_later
def _sequence_plan(merge: SequenceMerge, layout: TokenLayout) -> SequencePlan:
    specials = torch.ones(layout.frames, layout.special_tokens, dtype=torch.bool)
    into = torch.cat([specials, _one_of_each_window(merge, layout)], 1).flatten()
    many = int(merge.protect * layout.tokens)
    protected = torch.arange(many) * (layout.tokens // max(many, 1))
    free = torch.ones(layout.tokens, dtype=torch.bool)
    free[protected] = False
    tokens = (free | into).nonzero()[:, 0]
    places, sources = into[tokens].nonzero()[:, 0], (~into[tokens]).nonzero()[:, 0]
    merged = min(int(merge.ratio * layout.tokens), len(sources)) if len(places) else 0
    block = MergeBlocks(tokens[None], places, sources, merged)
    return SequencePlan(MergePlan(torch.arange(0), (block,)), protected)


def _one_of_each_window(merge: SequenceMerge, layout: TokenLayout) -> Bool[Tensor, "frames patches"]:
    """Patches that are destinations, by the released code's draw: a cell number for each whole window."""
    (high, wide), reference = merge.window, layout.reference_frame
    down, right = layout.grid[0] // high, layout.grid[1] // wide
    whole = torch.zeros(layout.frames, *layout.grid, dtype=torch.bool)
    others = torch.arange(layout.frames) != (-1 if reference is None else reference)
    frames = int(others.sum())
    if reference is not None:
        whole[reference] = True
    if not frames or not down * right:
        return whole.flatten(1)
    generator = torch.Generator().manual_seed(merge.seed)
    cell = torch.randint(high * wide, (frames, down, right, 1), generator=generator)
    pattern = torch.zeros(frames, down, right, high * wide, dtype=torch.bool).scatter_(3, cell, True)
    pattern = pattern.unflatten(3, (high, wide)).transpose(2, 3).reshape(frames, down * high, right * wide)
    if merge.sheared:
        flat = whole.flatten(1)
        flat[others, : down * high * right * wide] = pattern.flatten(1)
        return flat
    whole[others, : down * high, : right * wide] = pattern
    return whole.flatten(1)
