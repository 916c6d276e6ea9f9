"""Anchors, our own: every token sees the same few covering frames, and its own frame.

What the anchors compute then depends on the anchors alone, and every other frame on the anchors and
itself alone: frames can be attached in any order and in any chunks with the identical result
(`anchor_memory`).
"""

from __future__ import annotations

import dataclasses
from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor

from ...distributed.ranks import Ranks
from ..descriptors import log_counts, shortened, tokens_per_short_frame
from ..frame_choice import covering, covering_frames, evenly
from ..global_attention import SAME_FRAME, GlobalAttention
from ..index_cache import kept_for_later
from ..layout import TokenLayout
from ..preset import Preset
from ..protocols import Exchange, Keys, LayerInput
from ..softmax.sdpa import attend
from ..softmax.terms import OwnTerm, attend_own_frame, merge_terms
from ..softmax.weighted import attend_weighted, attend_weighted_with_lse, weighted_width


@dataclasses.dataclass(frozen=True)
class AnchorKeys(Keys):
    """All tokens of `frames` anchor frames, with `own_frame` also those of the query's own frame.

    `choice`: "coverage" (farthest-point sampling on the encoder's mean tokens, the reference frame first) or
    "even" in time; `indices` names the anchors instead. Where all frames are anchors this is dense attention.
    `descriptors` r adds specials and patches averaged to an r times coarser grid of all frames that are no
    anchors (0: none), with `count_bias` times the log of the patches that each stands for on its logits;
    frames then depend on one another again.
    """

    frames: int = 25
    choice: Literal["coverage", "even"] = "coverage"
    own_frame: bool = True
    indices: tuple[int, ...] | None = None
    descriptors: int = 0
    count_bias: float = 1.0

    def __post_init__(self) -> None:
        if self.frames < 1 or (self.indices is not None and not self.indices):
            raise ValueError(f"frames and indices must name an anchor, got {self.frames} and {self.indices}")
        if self.descriptors < 0:
            raise ValueError(f"descriptors are r times coarser, or 0 for none, not {self.descriptors}")
        if self.choice not in ("coverage", "even"):
            raise ValueError(f"anchors are chosen by coverage or even, not {self.choice!r}")

    per_query = True
    of_anchors = True

    @property
    def needs_frame_features(self) -> bool:
        return self.indices is None and self.choice == "coverage"

    def attend_layer(self, layer: LayerInput) -> Float[Tensor, "batch tokens dim"]:
        return layer.attention.output(self._heads(layer))

    def _heads(self, layer: LayerInput) -> Float[Tensor, "batch heads tokens dim"]:
        layout = layer.layout
        anchors = self.anchors(layer)
        if layer.run.ranks is not None:
            return self._heads_over_ranks(layer, layer.run.ranks, anchors)
        q = layer.queries()
        if not self.own_frame and anchors.shape[1] < layout.frames:
            return attend_weighted(q, *self._with_descriptors(layer, *layer.keys_values_of(anchors)))
        k, v = layer.keys_values()
        if anchors.shape[1] == layout.frames:
            return attend(q, k, v)
        own = attend_own_frame(q, k, v, layout.frames, layer.run.frames_per_chunk)
        absent, rows = layer.run.once(("anchor tokens", self, layout), lambda: self._tokens(layer))
        places = _batch_and_heads(k, rows)
        k, v, weight = self._with_descriptors(layer, k[places], v[places])
        shared, lse = attend_weighted_with_lse(q, k, v, weight)
        own = OwnTerm(own.value, own.logit, absent=absent)
        return merge_terms(q, shared, lse, own, kernels=layer.run.kernels)

    def _heads_over_ranks(
        self, layer: LayerInput, ranks: Ranks, anchors: Int[Tensor, "batch count"]
    ) -> Float[Tensor, "batch heads tokens dim"]:
        """`_heads` of this rank's frames; the anchors' keys and values travel while it attends to its own."""
        whole = layer.whole
        if not self.own_frame and anchors.shape[1] < whole.frames:
            k, v = layer.keys_values_of(anchors)
            return attend_weighted(layer.queries(), *self._with_descriptors(layer, k, v))
        k, v = layer.keys_values()
        if anchors.shape[1] == whole.frames:
            arriving = [ranks.gather(x, 2) for x in (k, v)]
            q = layer.queries()
            return attend(q, *(x.wait() for x in arriving))
        arriving = [layer.taken(x, anchors) for x in (k, v)]
        q = layer.queries()
        own = attend_own_frame(q, k, v, layer.layout.frames, layer.run.frames_per_chunk)
        del k, v
        among = layer.own(self._among(layer)).repeat_interleave(whole.tokens_per_frame, 1)
        k, v, weight = self._with_descriptors(layer, *(x.wait() for x in arriving))
        shared, lse = attend_weighted_with_lse(q, k, v, weight)
        own = OwnTerm(own.value, own.logit, absent=among)
        return merge_terms(q, shared, lse, own, kernels=layer.run.kernels)

    def _tokens(
        self, layer: LayerInput
    ) -> tuple[Bool[Tensor, "batch tokens"], Int[Tensor, "batch anchor_tokens"]]:
        """Which tokens are anchors', and their places, anchor after anchor."""
        anchors, each = self.anchors(layer), layer.layout.tokens_per_frame
        places = anchors[..., None] * each + torch.arange(each, device=anchors.device)
        return self._among(layer).repeat_interleave(each, 1), places.flatten(1)

    def _among(self, layer: LayerInput) -> Bool[Tensor, "batch frames"]:
        """Which frames are anchors."""
        anchors = self.anchors(layer)
        none = torch.zeros(len(anchors), layer.whole.frames, dtype=torch.bool, device=anchors.device)
        return none.scatter(1, anchors, True)

    def _with_descriptors(
        self, layer: LayerInput, k: Tensor, v: Tensor
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        """Keys, values and log weights, with the descriptors of the frames that are no anchors."""
        if not self.descriptors:
            return k, v, None
        more_k, more_v = shortened(layer, self.descriptors)
        if layer.run.ranks is not None:
            arriving = [layer.run.ranks.gather(x, 2) for x in (more_k, more_v)]
            more_k, more_v = (x.wait() for x in arriving)
        weight = layer.run.once(
            ("anchor weights", self, layer.layout), lambda: self._weights(layer, k.shape[2])
        )
        return torch.cat([k, more_k], 2), torch.cat([v, more_v], 2), weight

    def _weights(self, layer: LayerInput, whole: int) -> Float[Tensor, "batch one keys"]:
        """Log weights of `whole` keys, and of the descriptors after them."""
        among = self._among(layer)
        weight = layer.on_device(log_counts, layer.layout, self.descriptors, self.count_bias)
        weight = weight.expand(*among.shape, -1).masked_fill(among[..., None], float("-inf")).flatten(1)
        return F.pad(weight, (whole, 0))[:, None]

    def anchors(self, layer: LayerInput) -> Int[Tensor, "batch count"]:
        """Anchor frames of each batch element, chosen once a forward pass."""
        frames, first = layer.whole.frames, layer.whole.reference_frame

        def choose() -> Tensor:
            if self.needs_frame_features:
                return covering_frames(layer, self.frames).expand(len(layer.tokens), -1)
            if self.indices and (max(self.indices) >= frames or len(set(self.indices)) != len(self.indices)):
                raise ValueError(f"anchors {self.indices} are not different frames of {frames}")
            return layer.on_device(_frame_index, self, frames, first).expand(len(layer.tokens), -1)

        return layer.run.once(("anchors", self, frames, first), choose)

    def choose(
        self, frames: int, first: int | None, features: Float[Tensor, "batch frames dim"] | None
    ) -> Int[Tensor, "batch count"]:
        """Anchors among `frames` frames of which `first` is the reference; `features` for coverage only."""
        if self.indices is not None:
            return torch.tensor([self.indices])
        if self.choice == "even":
            return torch.tensor([evenly(frames, self.frames, first)])
        assert features is not None
        return covering(features.detach(), self.frames, first)

    def _counts(self, layout: TokenLayout) -> tuple[int, bool, int]:
        """Anchors, whether the own frame is added to them, and keys from descriptors."""
        anchors = min(self.frames if self.indices is None else len(self.indices), layout.frames)
        if anchors == layout.frames:
            return anchors, False, 0
        each = tokens_per_short_frame(layout, self.descriptors) if self.descriptors else 0
        return anchors, self.own_frame, layout.frames * each

    def count(self, layout: TokenLayout) -> float:
        anchors, own, described = self._counts(layout)
        return (anchors + own) * layout.tokens_per_frame + described

    def all_tokens(self, layout: TokenLayout) -> bool:
        return self._counts(layout)[0] == layout.frames

    def projected(self, layout: TokenLayout) -> float:
        anchors, _, described = self._counts(layout)
        return (layout.tokens if self.own_frame else anchors * layout.tokens_per_frame) + described

    def exchange(self, whole: TokenLayout, num_heads: int, dim: int) -> Exchange:
        """Keys and values of the anchors, and of the descriptors."""
        anchors, _, described = self._counts(whole)
        return Exchange(tokens=anchors * whole.tokens_per_frame + described)

    def working_bytes(self, layout: TokenLayout, dim: int, num_heads: int, element_bytes: int) -> int:
        """The own frame's outputs, the anchors' keys and values, and logits of both terms."""
        anchors, own, _ = self._counts(layout)
        tokens = layout.tokens + 2 * anchors * layout.tokens_per_frame
        return own * (tokens * dim * element_bytes + 2 * 4 * layout.tokens * num_heads)

    def attention_flops(
        self, queries: float, keys: float, layout: TokenLayout, dim: int, head_dim: int
    ) -> float:
        """With the channels that weigh descriptors."""
        anchors, own, described = self._counts(layout)
        shared = anchors * layout.tokens_per_frame + described
        widened = weighted_width(head_dim, described > 0) / head_dim
        return 4.0 * queries * dim * (shared * widened + own * layout.tokens_per_frame)


@kept_for_later
def _frame_index(keys: AnchorKeys, frames: int, first: int | None) -> Int[Tensor, "1 count"]:
    """Anchors that need no features."""
    return keys.choose(frames, first, None)


def _batch_and_heads(
    x: Float[Tensor, "batch heads tokens dim"], places: Int[Tensor, "batch chosen"]
) -> tuple[Tensor, Tensor, Tensor]:
    """An index of the same places in each head, other ones in each batch element."""
    batch, heads = (torch.arange(n, device=x.device) for n in x.shape[:2])
    return batch[:, None, None], heads[:, None], places[:, None]


@dataclasses.dataclass(frozen=True)
class Anchors(Preset):
    """Layers from `early` on see `frames` anchor frames, chosen once a run (see `AnchorKeys`).

    Layers outside `sensitive` (first x last; None: all are) see `fewer` times fewer anchors, a subset of the
    others where they are chosen by coverage. `descriptors` and `count_bias` bring in the rest. `cameras`: the
    camera head too attends to the anchors only; its cameras otherwise depend on all frames ("all").
    """

    name = "anchors"
    paper = "ours"
    about = "every token sees a few covering frames and its own frame"

    frames: int = 25
    choice: Literal["coverage", "even"] = "coverage"
    own_frame: bool = True
    early: int = 0
    sensitive: tuple[int, int] | None = None
    fewer: int = 3
    descriptors: int = 0
    count_bias: float = 1.0
    cameras: Literal["anchors", "all"] = "anchors"

    def __post_init__(self) -> None:
        if self.fewer < 1:
            raise ValueError(f"fewer divides the number of anchors by at least 1, not {self.fewer}")

    def _layer(self, frames: int) -> GlobalAttention:
        keys = AnchorKeys(frames, self.choice, self.own_frame, None, self.descriptors, self.count_bias)
        return GlobalAttention(keys=keys)

    def camera(self) -> GlobalAttention | None:
        keys = AnchorKeys(self.frames, self.choice)
        return GlobalAttention(keys=keys) if self.cameras == "anchors" else None

    def layers(self, depth: int) -> tuple[GlobalAttention, ...]:
        self.check_layers(depth, early=self.early)
        first, last = self.sensitive or (0, depth - 1)
        self.check_range(depth, "sensitive", first, last)
        few = max(1, self.frames // self.fewer)
        later = (self._layer(self.frames if first <= i <= last else few) for i in range(self.early, depth))
        return (SAME_FRAME,) * self.early + tuple(later)
