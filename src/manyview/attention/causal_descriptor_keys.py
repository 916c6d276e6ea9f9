"""FlashVGGT in training for streams: frames attend to descriptors of themselves and of earlier frames."""

from __future__ import annotations

import dataclasses
from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from .descriptors import (
    Resample,
    check_descriptors,
    log_counts,
    patch_places,
    shortened,
    tokens_per_short_frame,
)
from .index_cache import kept_for_later
from .layout import TokenLayout
from .protocols import Exchange, Keys, LayerInput
from .softmax.terms import OwnTerm, merge_terms
from .softmax.weighted import NEVER, attend_weighted, attend_weighted_with_lse

# Frames whose queries share a kernel call: each adds a channel to the head for their own keys.
_GROUP = 16


@dataclasses.dataclass(frozen=True)
class CausalDescriptorKeys(Keys):
    """A frame sees itself, the kept ones of the frames before it, and the reference frame whole.

    `reduction`, `resample`, `count_bias` and `duplicates` as in `methods.flashvggt.DescriptorKeys`. Of
    `keep_one_in` frames, counted from frame 0, the first is kept for later frames; the others are seen by
    themselves alone. `hide_reference` leaves out the whole reference frame, which the released training code
    does by mistake (its descriptors stay). There are no keyframes: they would be chosen by later frames too.
    Frame after frame this is chunk-recursive streaming with chunks of one frame.
    Source: FlashVGGT (arXiv 2512.01540), second training stage.
    """

    reduction: int = 4
    resample: Resample = "bilinear"
    count_bias: float = 0.0
    duplicates: bool = True
    keep_one_in: int = 1
    hide_reference: bool = False

    def __post_init__(self) -> None:
        check_descriptors(self.reduction, self.resample, self.count_bias)
        if self.keep_one_in < 1:
            raise ValueError(f"keep_one_in must be at least 1, not {self.keep_one_in}")

    per_query = True

    def attend_layer(self, layer: LayerInput) -> Float[Tensor, "batch tokens dim"]:
        """Frames go in groups, whose softmax has two parts: the kept keys before the group, and its own."""
        layout = layer.layout
        whole = self.whole(layout)
        # The reference frame comes first in the sequence, so that what is whole is never in the future.
        if whole and layout.reference_frame != 0:
            raise ValueError(
                f"causal descriptors need frame 0 as the reference, not {layout.reference_frame}"
            )
        k, v = shortened(layer, self.reduction, self.resample)
        each = tokens_per_short_frame(layout, self.reduction)
        kept = (x.unflatten(2, (layout.frames, each))[:, :, :: self.keep_one_in] for x in (k, v))
        past = [x.flatten(2, 3) for x in kept]
        if whole:
            first_frame = torch.zeros(len(k), 1, dtype=torch.long, device=k.device)
            full = layer.keys_values_of(first_frame, layer.on_device(patch_places, layout))
            past = [torch.cat(pair, 2) for pair in zip(full, past, strict=True)]
        weight = past_weight = None
        if self.count_bias != 0 or (whole and not self.duplicates):
            weight, past_weight = layer.on_device(_weights, self, layout)
        q, parts = layer.queries(), []
        for start in range(0, layout.frames, _GROUP):
            stop = min(start + _GROUP, layout.frames)
            seen = whole + len(range(0, start, self.keep_one_in)) * each
            heads = _attend_group(
                q[:, :, start * layout.tokens_per_frame : stop * layout.tokens_per_frame],
                _some(past[0], past[1], past_weight, slice(0, seen)),
                _some(k, v, weight, slice(start * each, stop * each)),
                layer.on_device(_mask, start, stop, each, self.keep_one_in),
                layer.run.kernels,
            )
            parts.append(heads.transpose(1, 2))  # tokens before heads, as the output projection reads them
        return layer.attention.output(torch.cat(parts, 1).transpose(1, 2))

    def exchange(self, whole: TokenLayout, num_heads: int, dim: int) -> Exchange:
        return Exchange(refused="frames see those before them, as in training for streams")

    def count(self, layout: TokenLayout) -> float:
        """Keys of a query, the mean over frames."""
        seen = sum(len(range(0, t, self.keep_one_in)) + 1 for t in range(layout.frames))
        return self.whole(layout) + seen / layout.frames * tokens_per_short_frame(layout, self.reduction)

    def projected(self, layout: TokenLayout) -> float:
        return self.whole(layout) + layout.frames * tokens_per_short_frame(layout, self.reduction)

    def whole(self, layout: TokenLayout) -> int:
        """Patches of the reference frame that are seen."""
        return 0 if self.hide_reference or layout.reference_frame is None else layout.patches_per_frame


@kept_for_later
def _weights(keys: CausalDescriptorKeys, layout: TokenLayout) -> tuple[Tensor, Tensor]:
    """Log weights of all short frames, and of what later frames see: the whole frame, then kept ones."""
    weight = log_counts(layout, keys.reduction, keys.count_bias).repeat(layout.frames, 1)
    whole = keys.whole(layout)
    if whole and not keys.duplicates:
        weight[0, layout.special_tokens :] = float("-inf")
    return weight.flatten(), F.pad(weight[:: keys.keep_one_in].flatten(), (whole, 0))


@kept_for_later
def _mask(
    start: int, stop: int, each: int, keep_one_in: int
) -> tuple[Float[Tensor, "frames room"], Float[Tensor, "keys room"]] | None:
    """Channels of queries and of keys that hide from frames those of their group that they do not see.

    A key has a logit that underflows in its frame's channel, a query a one in the channels of frames hidden
    from it; visible keys add exact zeros.
    """
    frames = stop - start
    if frames == 1:
        return None
    new = torch.arange(start, stop)
    seen = (new[:, None] > new) & (new % keep_one_in == 0) | (new[:, None] == new)
    room = frames + -frames % 8
    flags = F.pad((~seen).float(), (0, room - frames))
    return flags, (NEVER * torch.eye(frames, room)).repeat_interleave(each, 0)


class _Seen(NamedTuple):
    """Some keys, their values and log weights."""

    k: Tensor
    v: Tensor
    log_weight: Tensor | None


def _some(k: Tensor, v: Tensor, log_weight: Tensor | None, places: slice) -> _Seen:
    return _Seen(k[:, :, places], v[:, :, places], None if log_weight is None else log_weight[places])


def _attend_group(
    q: Float[Tensor, "batch heads queries dim"],
    past: _Seen,
    own: _Seen,
    mask: tuple[Tensor, Tensor] | None,
    kernels: str,
) -> Float[Tensor, "batch heads queries dim"]:
    """Attention of a group's frames to the keys before it, and as the mask says to its own."""
    if mask is None:
        weights = [x.log_weight for x in (past, own) if x.log_weight is not None]
        keys, values = (torch.cat(pair, 2) for pair in ((past.k, own.k), (past.v, own.v)))
        return attend_weighted(q, keys, values, torch.cat(weights) if weights else None, shapes_vary=True)
    dim, scale = q.shape[-1], q.shape[-1] ** -0.5
    flags, marks = (x.to(q.dtype) for x in mask)
    flags = (flags / scale).repeat_interleave(q.shape[2] // len(flags), 0)
    term, lse = attend_weighted_with_lse(
        torch.cat([q, flags.expand(*q.shape[:2], -1, -1)], -1),
        torch.cat([own.k, marks.expand(*own.k.shape[:2], -1, -1)], -1),
        F.pad(own.v, (0, marks.shape[-1])),
        own.log_weight,
        scale=scale,
        shapes_vary=True,
    )
    term = term[..., :dim]
    if not past.k.shape[2]:
        return term
    shared, past_lse = attend_weighted_with_lse(q, *past, shapes_vary=True)
    return merge_terms(q, shared, past_lse, OwnTerm(term, lse), kernels=kernels)
