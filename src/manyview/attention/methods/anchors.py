"""Anchors: every token sees the same few covering frames, and its own frame.

What the anchors compute then depends on the anchors alone, and every other frame on the anchors and
itself alone: frames can be attached in any order and in any chunks with the identical result.
"""

from __future__ import annotations

import dataclasses
import math
from typing import Any, Literal

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor

from ...errors import UsageError
from ..dense import AllQueries, NoFill, SameFrameKeys
from ..descriptors import coarse_grid, shortened
from ..frame_choice import covering, evenly
from ..global_attention import GlobalAttention
from ..layout import TokenLayout
from ..protocols import LayerInput
from ..softmax.extended import attend_extended, extended_width
from ..softmax.sdpa import attend

_SCORES_AT_ONCE = 1 << 26


@dataclasses.dataclass(frozen=True)
class AnchorKeys:
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
            raise ValueError("anchors need at least one frame")
        if self.descriptors < 0:
            raise ValueError(f"descriptors are r times coarser, or 0 for none, not {self.descriptors}")
        if self.choice not in ("coverage", "even"):
            raise ValueError(f"anchors are chosen by coverage or even, not {self.choice!r}")

    def check(self, layer: GlobalAttention) -> None:
        """Refuse reduced queries and fills: the own frame takes part by its own rule."""
        if layer.queries != AllQueries() or layer.fill != NoFill():
            raise ValueError("anchors take all queries and no fill")

    @property
    def needs_frame_features(self) -> bool:
        return self.indices is None and self.choice == "coverage"

    def select(self, layer: LayerInput) -> Any:
        raise TypeError("keys differ from frame to frame: use attend_layer")

    def attend_layer(self, layer: LayerInput, queries: Any, fill: Any) -> Tensor:
        """Outputs [B, heads, S*P, d] before the output projection."""
        layout, attention = layer.layout, layer.attention
        anchors = self.anchors(layer)
        batch, count = anchors.shape
        q = attention.queries(layer.tokens, layer.rotation, layer.piece)
        among = torch.zeros(batch, layout.frames, dtype=torch.bool, device=q.device).scatter(1, anchors, True)
        if not self.own_frame and count < layout.frames:
            tokens = layer.tokens.unflatten(1, (layout.frames, -1))
            rows = torch.arange(batch, device=tokens.device)[:, None]
            k, v = attention.keys_values(tokens[rows, anchors].flatten(1, 2), layer.rotation, layer.piece)
            k, v, weight = self._with_descriptors(layer, k, v, among)
            return attend_extended(q, k, v, weight, kernels=layer.run.kernels)
        k, v = attention.keys_values(layer.tokens, layer.rotation, layer.piece)
        if count == layout.frames:
            return attend(q, k, v)
        shared_k, shared_v = (_of_frames(x, anchors, layout) for x in (k, v))
        logit, value = same_frame_terms(q, k, v, layout)
        is_anchor = among.repeat_interleave(layout.tokens_per_frame, 1)[:, None]
        logit = logit.masked_fill(is_anchor, float("-inf"))
        k, v, weight = self._with_descriptors(layer, shared_k, shared_v, among)
        return attend_extended(q, k, v, weight, logit, value, kernels=layer.run.kernels)

    def _with_descriptors(
        self, layer: LayerInput, k: Tensor, v: Tensor, among: Bool[Tensor, "batch frames"]
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        """Keys, values and log weights, with the descriptors of the frames that are no anchors."""
        if not self.descriptors:
            return k, v, None
        layout = layer.layout
        more_k, more_v, each = shortened(layer, self.descriptors)
        rows, columns = coarse_grid(layout.grid, self.descriptors)
        weight = torch.zeros(*among.shape, each, device=k.device)
        weight[..., layout.special_tokens :] = self.count_bias * math.log(
            layout.patches_per_frame / (rows * columns)
        )
        weight = weight.masked_fill(among[..., None], float("-inf")).flatten(1)
        weight = F.pad(weight, (k.shape[2], 0))[:, None]
        return torch.cat([k, more_k], 2), torch.cat([v, more_v], 2), weight

    def anchors(self, layer: LayerInput) -> Int[Tensor, "batch count"]:
        """Anchor frames of each batch element, chosen once a forward pass."""
        frames, batch, device = layer.layout.frames, layer.tokens.shape[0], layer.tokens.device
        if self.indices is not None:
            if max(self.indices) >= frames or len(set(self.indices)) != len(self.indices):
                raise ValueError(f"anchors {self.indices} are not different frames of {frames}")
            return torch.tensor(self.indices, device=device).expand(batch, -1)
        key = ("anchors", self.frames, self.choice)
        if key not in layer.run.memory:
            found = self.choose(frames, layer.layout.reference_frame, layer.run.frame_features)
            layer.run.memory[key] = found.to(device).expand(batch, -1)
        return layer.run.memory[key]

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

    def _count(self, layout: TokenLayout) -> int:
        return min(self.frames if self.indices is None else len(self.indices), layout.frames)

    def _described(self, layout: TokenLayout) -> int:
        if not self.descriptors or self._count(layout) == layout.frames:
            return 0
        rows, columns = coarse_grid(layout.grid, self.descriptors)
        return layout.frames * (layout.special_tokens + rows * columns)

    def count(self, layout: TokenLayout) -> float:
        anchors = self._count(layout)
        own = self.own_frame and anchors < layout.frames
        return (anchors + own) * layout.tokens_per_frame + self._described(layout)

    def projected(self, layout: TokenLayout) -> float:
        whole = layout.tokens if self.own_frame else self._count(layout) * layout.tokens_per_frame
        return whole + self._described(layout)

    def attention_flops(
        self, queries: float, keys: float, layout: TokenLayout, dim: int, head_dim: int
    ) -> float:
        """Scores and weighted sums, with the channels that bring in the own frame."""
        anchors = self._count(layout)
        own = self.own_frame and anchors < layout.frames
        shared = anchors * layout.tokens_per_frame + own + self._described(layout)
        widened = extended_width(head_dim, self._described(layout) > 0, own) / head_dim
        return 4.0 * queries * dim * (shared * widened + own * layout.tokens_per_frame)


@dataclasses.dataclass(frozen=True)
class Anchors:
    """Layers from `early` on see `frames` anchor frames, chosen once a run (see `AnchorKeys`).

    Layers outside `sensitive` (first x last; None: all are) see `fewer` times fewer anchors, a subset of the
    others where they are chosen by coverage. `descriptors` and `count_bias` bring in the rest. `cameras`: the
    camera head too joins each frame with the anchors only, as its answers else depend on all frames ("all").
    """

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
        self._layer(self.frames)

    def _layer(self, frames: int) -> GlobalAttention:
        return GlobalAttention(
            keys=AnchorKeys(frames, self.choice, self.own_frame, None, self.descriptors, self.count_bias)
        )

    def camera(self) -> GlobalAttention | None:
        """How frames meet in the camera head."""
        keys = AnchorKeys(self.frames, self.choice)
        return GlobalAttention(keys=keys) if self.cameras == "anchors" else None

    def layers(self, depth: int) -> tuple[GlobalAttention, ...]:
        if not 0 <= self.early <= depth:
            raise UsageError(f"anchors: early={self.early} is not a number of layers from 0 to {depth}")
        first, last = self.sensitive or (0, depth - 1)
        if not 0 <= first <= last < depth:
            raise UsageError(f"anchors: layers {first} to {last} are not among 0 to {depth - 1}")
        frame = GlobalAttention(keys=SameFrameKeys())
        few = max(1, self.frames // self.fewer)
        later = (self._layer(self.frames if first <= i <= last else few) for i in range(self.early, depth))
        return (frame,) * self.early + tuple(later)


def _of_frames(x: Tensor, frames: Tensor, layout: TokenLayout) -> Tensor:
    """Tokens [B, H, A*P, d] of some frames of each batch element."""
    split = x.unflatten(2, (layout.frames, -1)).transpose(1, 2)
    rows = torch.arange(len(x), device=x.device)[:, None]
    return split[rows, frames].transpose(1, 2).flatten(2, 3)


def same_frame_terms(
    q: Tensor, k: Tensor, v: Tensor, layout: TokenLayout
) -> tuple[Float[Tensor, "batch heads tokens"], Float[Tensor, "batch heads tokens dim"]]:
    """Log-sum-exp of each query's scores with its own frame, and its attention there.

    A few frames at a time, so that at most 2^26 scores exist at once (fp32).
    """
    batch, heads, _, dim = q.shape
    per_frame = batch * heads * layout.tokens_per_frame**2
    step = max(1, _SCORES_AT_ONCE // per_frame)
    split = [x.unflatten(2, (layout.frames, -1)) for x in (q, k, v)]
    logits, values = [], []
    for start in range(0, layout.frames, step):
        q_part, k_part, v_part = (x[:, :, start : start + step] for x in split)
        scores = (q_part @ k_part.transpose(-1, -2)).to(torch.promote_types(q.dtype, torch.float32))
        scores = scores * dim**-0.5
        logits.append(scores.logsumexp(-1))
        values.append(scores.softmax(-1).to(v.dtype) @ v_part)
    return torch.cat(logits, 2).flatten(2), torch.cat(values, 2).flatten(2, 3)
