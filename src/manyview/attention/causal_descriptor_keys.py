"""FlashVGGT in training for streams: frames attend to descriptors of themselves and of earlier frames."""

from __future__ import annotations

import dataclasses

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
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
from .protocols import Keys, LayerInput
from .softmax.extended import attend_extended

_HIDDEN = -30_000.0  # added to a logit: exp underflows to zero, and half precision holds it
# Frames whose queries share a kernel call: each adds a channel to the head, each call a longer past.
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
        """Outputs of all heads; frames go in groups that share the kept keys of the groups before."""
        layout = layer.layout
        whole = self._whole(layout)
        # The reference frame comes first in the sequence, so that what is whole is never in the future.
        if whole and layout.reference_frame != 0:
            raise ValueError(
                f"causal descriptors need frame 0 as the reference, not {layout.reference_frame}"
            )
        k, v = shortened(layer, self.reduction, self.resample)
        each = tokens_per_short_frame(layout, self.reduction)
        log_weight = None
        if self.count_bias != 0 or (whole and not self.duplicates):
            log_weight = log_counts(layout, self.reduction, self.count_bias).repeat(layout.frames)
            if whole and not self.duplicates:
                log_weight[layout.special_tokens : each] = float("-inf")
            log_weight = F.pad(log_weight, (whole, 0)).to(k.device)
        if whole:
            first_frame = torch.zeros(len(k), 1, dtype=torch.long, device=k.device)
            full_k, full_v = layer.keys_values_of(first_frame, patch_places(layout))
            k, v = torch.cat([full_k, k], 2), torch.cat([full_v, v], 2)
        q = layer.queries()
        parts = []
        for first in range(0, layout.frames, _GROUP):
            group = range(first, min(first + _GROUP, layout.frames))
            index, hidden = _group_keys(whole, each, group.start, group.stop, self.keep_one_in)
            index = index.to(q.device)
            weight = None if log_weight is None else log_weight[index]
            rows = slice(group.start * layout.tokens_per_frame, group.stop * layout.tokens_per_frame)
            shared = (k[:, :, index], v[:, :, index], weight)
            parts.append(_attend_hiding(q[:, :, rows], *shared, hidden, each, layer.run.kernels))
        return layer.attention.output(torch.cat(parts, 2))

    def count(self, layout: TokenLayout) -> float:
        """Keys of a query, the mean over frames."""
        seen = sum(len(range(0, t, self.keep_one_in)) + 1 for t in range(layout.frames))
        return self._whole(layout) + seen / layout.frames * tokens_per_short_frame(layout, self.reduction)

    def projected(self, layout: TokenLayout) -> float:
        return self._whole(layout) + layout.frames * tokens_per_short_frame(layout, self.reduction)

    def _whole(self, layout: TokenLayout) -> int:
        """Patches of the reference frame that are seen."""
        return 0 if self.hide_reference or layout.reference_frame is None else layout.patches_per_frame


@kept_for_later
def _group_keys(
    whole: int, each: int, start: int, stop: int, keep_one_in: int
) -> tuple[Tensor, Bool[Tensor, "frames owners"]]:
    """Keys that any frame from `start` to `stop` sees, and which of them each of these frames does not.

    The keys are `whole` ones, then `each` a frame: kept frames before `start`, then all from `start` on.
    `hidden` has a column for each of the latter; all other keys are seen by every frame of the group.
    """
    frames = torch.tensor([*range(0, start, keep_one_in), *range(start, stop)])
    short = whole + frames[:, None] * each + torch.arange(each)
    new = torch.arange(start, stop)
    seen = (new[:, None] > new) & (new % keep_one_in == 0) | (new[:, None] == new)
    return torch.cat([torch.arange(whole), short.flatten()]), ~seen


def _attend_hiding(
    q: Float[Tensor, "batch heads queries dim"],
    k: Float[Tensor, "batch heads keys dim"],
    v: Float[Tensor, "batch heads keys dim"],
    log_weight: Tensor | None,
    hidden: Bool[Tensor, "frames owners"],
    each: int,
    kernels: str,
) -> Float[Tensor, "batch heads queries dim"]:
    """Attention of the group's frames to keys that end with those of the group itself, `each` a frame.

    The mask is a channel for each frame of the group: a key has a logit that underflows in its frame's
    channel, a query a one in the channels of frames hidden from it; visible keys add exact zeros.
    """
    frames, dim = len(hidden), q.shape[-1]
    if not hidden.any():
        return attend_extended(q, k, v, log_weight, kernels=kernels)
    width = dim + frames + -(dim + frames) % 8
    flags = F.pad(hidden.to(q), (0, width - dim - frames)) * width**0.5
    # Kernels scale by the width they see; the scale must stay that of `dim`.
    per_frame = (q * (width / dim) ** 0.5).unflatten(2, (frames, -1))
    flags = flags[:, None].expand(*per_frame.shape[:-1], -1)
    marks = _HIDDEN * torch.eye(frames, width - dim, device=k.device, dtype=k.dtype)
    marks = F.pad(marks.repeat_interleave(each, 0), (0, 0, k.shape[2] - frames * each, 0))
    heads = attend_extended(
        torch.cat([per_frame, flags], -1).flatten(2, 3),
        torch.cat([k, marks.expand(*k.shape[:2], -1, -1)], -1),
        F.pad(v, (0, width - dim)),
        log_weight,
        kernels=kernels,
    )
    return heads[..., :dim]
