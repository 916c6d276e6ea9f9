"""FlashVGGT: keys and values from a few descriptors of each frame instead of all its patches."""

from __future__ import annotations

import dataclasses
import math
from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor

from ..causal_descriptor_keys import CausalDescriptorKeys
from ..dense import SameFrameKeys
from ..descriptors import at_places, coarse_grid, shortened
from ..frame_choice import cluster_members
from ..global_attention import GlobalAttention
from ..layout import TokenLayout
from ..protocols import KeySet, LayerInput

_FRAMES_PER_CLUSTER = 200


_REDUCTION = {"v1": 4, "v2": 3, "learnt": 3}


_RESAMPLE: dict[str, Literal["bilinear", "nearest", "learnt"]] = {
    "v1": "bilinear",
    "v2": "nearest",
    "learnt": "learnt",
}


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
            rotation = at_places(layer.rotation, torch.arange(layout.special_tokens, layout.tokens_per_frame))
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


@dataclasses.dataclass(frozen=True)
class Flash:
    """FlashVGGT (arXiv 2512.01540): all tokens ask, descriptors of every frame answer.

    `version` "v1": bilinear descriptors in every global layer, `r` 4. "v2", the later release: nearest
    descriptors in the middle layers (9 to 19 of 24, the same fraction of other depths), `r` 3;
    the other layers stay within their frames. "learnt": descriptors by the weights' own convolution in every
    layer, `r` 3, for weights that have one. `keyframes`: clusters whose frames are added whole (None:
    one per 200 frames). `duplicates`, `count_bias`: see `DescriptorKeys`. `causal`: frames see
    themselves and what is kept of earlier ones, as in training for streams; `keep_one_in` and
    `hide_reference` belong to it, see `CausalDescriptorKeys`.
    """

    r: int | None = None
    version: str = "v1"
    keyframes: int | None = None
    duplicates: bool = True
    count_bias: float = 0.0
    causal: bool = False
    keep_one_in: int = 1
    hide_reference: bool = False

    def __post_init__(self) -> None:
        if self.version not in _REDUCTION:
            raise ValueError(f"flash has the versions v1, v2 and learnt, not {self.version!r}")
        if self.causal and (self.keyframes or 0) > 1:
            raise ValueError("keyframes are chosen among all frames, which causal=true does not allow")
        if not self.causal and (self.keep_one_in != 1 or self.hide_reference):
            raise ValueError("keep_one_in and hide_reference belong to causal=true")
        self._keys()

    def _keys(self) -> DescriptorKeys | CausalDescriptorKeys:
        reduction = _REDUCTION[self.version] if self.r is None else self.r
        short = DescriptorKeys(
            reduction, _RESAMPLE[self.version], self.keyframes, self.count_bias, self.duplicates
        )
        if not self.causal:
            return short
        return CausalDescriptorKeys(
            reduction,
            short.resample,
            self.count_bias,
            self.duplicates,
            self.keep_one_in,
            self.hide_reference,
        )

    def layers(self, depth: int) -> tuple[GlobalAttention, ...]:
        """One answer per global layer."""
        short = GlobalAttention(keys=self._keys())
        if self.version != "v2":
            return (short,) * depth
        first = 9 * depth // 24
        end = max(20 * depth // 24, first + 1)
        own = GlobalAttention(keys=SameFrameKeys())
        return tuple(short if first <= i < end else own for i in range(depth))


def cluster_count(layout: TokenLayout, keyframes: int | None) -> int:
    """Clusters of frames: as asked, or floor(frames / 200); a single cluster is none.

    Source: FlashVGGT (arXiv 2512.01540), where up to one cluster leaves only the reference frame.
    """
    wanted = layout.frames // _FRAMES_PER_CLUSTER if keyframes is None else min(keyframes, layout.frames)
    return wanted if wanted > 1 else 0


def full_frame_count(layout: TokenLayout, keyframes: int | None) -> int:
    """Frames kept whole: the reference frame, if there is one, and a frame for each cluster."""
    return int(layout.reference_frame is not None) + cluster_count(layout, keyframes)
