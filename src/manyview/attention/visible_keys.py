"""Keys without the tokens that masks hide: what a hidden patch shows reaches no other frame directly.

Only the keys and values of global attention change. Hidden patches still have queries, and within their own
frame the frame blocks and the encoder see them.
"""

from __future__ import annotations

import dataclasses

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Int
from torch import Tensor

from ..files.naming import counted
from .dense import SameFrameKeys
from .index_cache import for_later_calls
from .layout import TokenLayout
from .plan import Plan
from .protocols import Exchange, Keys, KeySet, LayerInput


@dataclasses.dataclass(frozen=True, eq=False)
class VisibleKeys(Keys):
    """`keys` (with `token_index`) without the patches [frames, patches] that are `hidden`, in input order.

    For one scene at a time. Special tokens are never hidden.
    """

    keys: Keys
    hidden: Bool[Tensor, "frames patches"]

    @property
    def needs_frame_features(self) -> bool:
        return self.keys.needs_frame_features

    @property
    def project_all(self) -> bool:  # type: ignore[override]
        return self.keys.project_all

    @property
    def keys_before_rope(self) -> bool:  # type: ignore[override]
        return self.keys.keys_before_rope

    def select(self, layer: LayerInput) -> KeySet:
        if len(layer.tokens) != 1:
            raise ValueError(f"masks hide keys of one scene at a time, not of {len(layer.tokens)}")
        hidden = layer.run.once(("hidden tokens", id(self.hidden)), lambda: self._hidden_tokens(layer))
        index, sizes = layer.run.once(("visible keys", self.keys), lambda: self._visible(layer, hidden))
        if not self.project_all:
            return KeySet(*_keys_values(layer, index), sizes=sizes)
        k, v = layer.keys_values()
        plain = layer.keys_values(positions=False)[0] if self.keys_before_rope else None
        hidden = layer.own(hidden)
        kept = torch.zeros_like(hidden)
        kept[index] = True
        many = layer.run.once(("hidden", id(self.hidden)), self._hidden_count)
        dropped = layer.whole.tokens - sum(sizes) - many
        return KeySet(k[:, :, index], v[:, :, index], None, kept, k, v, plain, hidden, dropped, sizes=sizes)

    @for_later_calls()
    def _hidden_count(self) -> int:
        return int(self.hidden.sum())

    def _hidden_tokens(self, layer: LayerInput) -> Bool[Tensor, " tokens"]:
        """Hidden tokens of the scene in the order of the sequence."""
        order, hidden = layer.run.frame_order, self.hidden.to(layer.tokens.device)
        if order is not None:
            hidden = hidden[order[0]]
        return F.pad(hidden, (layer.layout.special_tokens, 0)).flatten()

    def _visible(
        self, layer: LayerInput, hidden: Bool[Tensor, " tokens"]
    ) -> tuple[Int[Tensor, " keys"], tuple[int, ...]]:
        """Which of the rank's tokens are keys that are not hidden, and how many each rank has of them."""
        index, ranks = self.keys.token_index(layer), layer.run.ranks
        assert index is not None
        index = index[0].to(hidden.device)
        index = index[~hidden[index]]
        if ranks is None:
            return index, (len(index),)
        starts = [part.first * layer.whole.tokens_per_frame for part in ranks.split.parts[1:]]
        places = torch.searchsorted(index, torch.tensor(starts, device=index.device)).tolist()
        parts = index.tensor_split(places)
        first = ranks.split.first * layer.whole.tokens_per_frame
        return parts[ranks.split.rank] - first, tuple(len(part) for part in parts)

    def count(self, layout: TokenLayout) -> float:
        share = float(self.hidden.sum()) / layout.tokens
        return self.keys.count(layout) * (1 - share)

    def projected(self, layout: TokenLayout) -> float:
        return layout.tokens if self.project_all else self.count(layout)

    def exchange(self, whole: TokenLayout, num_heads: int, dim: int) -> Exchange:
        """At most what there would be without masks."""
        return self.keys.exchange(whole, num_heads, dim)


def _keys_values(layer: LayerInput, index: Int[Tensor, " keys"]) -> tuple[Tensor, Tensor]:
    """Keys and values [B, heads, keys, d] of some tokens, some at a time."""

    if not len(index):  # other ranks have all keys
        k, v = layer.attention.keys_values(layer.tokens[:, :1])
        return k[:, :, :0], v[:, :, :0]

    def project(part: Int[Tensor, " some"]) -> tuple[Tensor, Tensor]:
        rotation = None if layer.rotation is None else layer.rotation.select(part)
        return layer.attention.keys_values(layer.tokens[:, part], rotation)

    piece = layer.chunk(layer.layout.tokens_per_frame)
    if piece is None or piece >= len(index):
        return project(index)
    first = project(index[:piece])
    batch, heads, _, dim = first[0].shape
    k, v = (x.new_empty(batch, heads, len(index), dim) for x in first)
    k[:, :, :piece], v[:, :, :piece] = first
    for start in range(piece, len(index), piece):
        some = slice(start, start + piece)
        k[:, :, some], v[:, :, some] = project(index[some])
    return k, v


def hide_keys(plan: Plan, hidden: Bool[Tensor, "frames patches"]) -> tuple[Plan, str]:
    """A plan whose global attention does not see hidden patches, and a sentence that says where it does not.

    Args:
        plan: Any plan.
        hidden: The patches to hide, True, of every frame, row by row.

    Returns:
        The plan with `VisibleKeys` in the layers whose keys are single tokens. Layers that act within frames
        stay as they are, and so do those whose keys are merged or chosen for each query.
    """
    layers, changed, other = [], 0, 0
    for layer in plan.layers:
        if layer.keys.single_tokens:
            layer = dataclasses.replace(layer, keys=VisibleKeys(layer.keys, hidden))
            changed += 1
        elif not isinstance(layer.keys, SameFrameKeys):
            other += 1
        layers.append(layer)
    share = float(hidden.float().mean())
    if not changed and not other:
        return plan, f"{plan} has no global attention in which masked patches could be hidden"
    if not changed:
        return plan, f"{plan} keeps masked patches ({share:.0%}) as keys: its keys are no single tokens"
    sentence = f"masked patches ({share:.0%}) are no keys of global attention"
    if other:
        sentence += f", but for {counted(other, 'layer')} of {plan}, whose keys are no single tokens"
    return dataclasses.replace(plan, layers=tuple(layers), name=str(plan)), sentence
