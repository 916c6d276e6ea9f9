"""FlashVGGT (arXiv 2512.01540): all tokens attend to few descriptors of each frame, not to its patches.

Needs weights trained for it. Section 3 of the paper and the public releases, and where they are here:

1. Descriptors: a frame's normalised patch tokens, resized to floor(rows / r) x floor(columns / r), are
   projected to keys and values; their positions are those of the nearest patches (`descriptors.shortened`).
2. Auxiliary keys: the special tokens of every frame, all patches of the first frame, and all patches of
   keyframes: the members nearest to the k-means centres of the frames' mean tokens, floor(frames / 200) of
   them (`DescriptorKeys`).
3. One softmax of all queries over these keys, without a bias for what a descriptor stands for (`NoFill`).
4. First release ("v1"): bilinear, r = 4, every global layer. Later release ("v2"): nearest, r = 3, layers 9
   to 19 of 24; the other global layers attend within frames. Its training code's own default is a
   convolution with r = 3 ("learnt"). (`FlashVggt.layers`)
5. Streams: see `streaming.recursive_keys`; the causal mask of the second training stage:
   `causal_descriptor_keys`.

Where paper and releases are silent or differ, and the paper's ablations: docs/methods/flash.md.
"""

from __future__ import annotations

import dataclasses
from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor

from ..causal_descriptor_keys import CausalDescriptorKeys
from ..descriptors import (
    Resample,
    check_descriptors,
    log_counts,
    patch_places,
    shortened,
    tokens_per_short_frame,
)
from ..frame_choice import cluster_members, evenly
from ..global_attention import SAME_FRAME, GlobalAttention
from ..index_cache import kept_for_later
from ..layout import TokenLayout
from ..preset import Preset
from ..protocols import Exchange, Keys, KeySet, LayerInput

KeyframeRule = Literal["cluster", "stride", "random"]

_FRAMES_PER_CLUSTER = 200
_VERSIONS: dict[str, tuple[int, Resample]] = {
    "v1": (4, "bilinear"),
    "v2": (3, "nearest"),
    "learnt": (3, "learnt"),
}


@dataclasses.dataclass(frozen=True)
class DescriptorKeys(Keys):
    """Steps 1 and 2: special tokens and descriptors of all frames, and all patches of a few frames.

    `resample` is "bilinear", "nearest" (single tokens, so subsampling after the positions is the same),
    "average" (of whole windows) or "learnt" (the weights' own convolution, see `SpatialCompressor`). The
    reference frame (`first_frame`) and `keyframes` more (None: one per 200 frames; below two: none) are added
    whole: by `keyframe_rule` the members of as many clusters, frames at equal distances, or random ones from
    a fixed seed. `specials`: special tokens of all frames are keys.
    """

    reduction: int = 4
    resample: Resample = "bilinear"
    keyframes: int | None = None
    count_bias: float = 0.0
    duplicates: bool = True
    specials: bool = True
    first_frame: bool = True
    keyframe_rule: KeyframeRule = "cluster"

    def __post_init__(self) -> None:
        check_descriptors(self.reduction, self.resample, self.count_bias)
        if self.keyframes is not None and self.keyframes < 0:
            raise ValueError(f"the number of keyframes cannot be negative, got {self.keyframes}")

    @property
    def needs_frame_features(self) -> bool:
        return self.keyframe_rule == "cluster" and (self.keyframes is None or self.keyframes > 1)

    def select(self, layer: LayerInput) -> KeySet:
        """Keys in the order: patches of whole frames, then for each frame specials and descriptors.

        Over ranks the whole frames come from all of them, the others are joined.
        """
        k, v = shortened(layer, self.reduction, self.resample)
        if not self.specials:
            k, v = (self._descriptors(x, layer.layout) for x in (k, v))
        whole, joined = self._whole_frames(layer), 0
        if whole.shape[1]:
            patches = layer.on_device(patch_places, layer.layout)
            more_k, more_v = layer.keys_values_of(whole, patches)
            k, v, joined = torch.cat([more_k, k], 2), torch.cat([more_v, v], 2), more_k.shape[2]
        weight = layer.run.once(("descriptor weights", self), lambda: self._log_weight(layer, whole))
        return KeySet(k, v, weight, joined=joined)

    def _descriptors(self, short: Tensor, layout: TokenLayout) -> Tensor:
        """Keys or values [batch, heads, frames * short, dim] without those of special tokens."""
        frames: Tensor = short.unflatten(2, (layout.frames, -1))
        return frames[:, :, :, layout.special_tokens :].flatten(2, 3)

    def count(self, layout: TokenLayout) -> float:
        whole = (layout.reference_frame is not None and self.first_frame) + self._clusters(layout)
        short = tokens_per_short_frame(layout, self.reduction)
        short -= 0 if self.specials else layout.special_tokens
        return layout.frames * short + whole * layout.patches_per_frame

    def projected(self, layout: TokenLayout) -> float:
        return self.count(layout)

    def exchange(self, whole: TokenLayout, num_heads: int, dim: int) -> Exchange:
        return Exchange(tokens=self.count(whole))

    def _clusters(self, layout: TokenLayout) -> int:
        """Clusters of frames; a single one leaves only the reference frame."""
        wanted = layout.frames // _FRAMES_PER_CLUSTER if self.keyframes is None else self.keyframes
        return min(wanted, layout.frames) if wanted > 1 and layout.frames > 1 else 0

    def _whole_frames(self, layer: LayerInput) -> Int[Tensor, "batch whole"]:
        """Frames whose patches are all keys, chosen once per forward pass."""
        layout, like = layer.whole, layer.tokens.new_zeros(len(layer.tokens), 1, dtype=torch.long)

        def choose() -> Tensor:
            first = layout.reference_frame if self.first_frame else None
            chosen, count = [like[:, :0] if first is None else like + first], self._clusters(layout)
            if count and self.keyframe_rule == "cluster":
                chosen.append(cluster_members(layer.run.features(), count))
            elif count:
                frames = layer.on_device(_fixed_frames, layout.frames, count, self.keyframe_rule)
                chosen.append(frames.expand(len(like), -1))
            return torch.cat(chosen, 1)

        return layer.run.once(("descriptor frames", self), choose)

    def _log_weight(
        self, layer: LayerInput, whole: Int[Tensor, "batch whole"]
    ) -> Float[Tensor, "batch one keys"] | None:
        """Log weights of the keys of all frames."""
        if self.count_bias == 0 and (self.duplicates or not whole.shape[1]):
            return None
        layout = layer.whole
        special = layout.special_tokens if self.specials else 0
        short = layer.on_device(log_counts, layout, self.reduction, self.count_bias)
        short = short[layout.special_tokens - special :].repeat(len(whole), layout.frames, 1)
        full = torch.zeros(*whole.shape, layout.patches_per_frame, device=whole.device)
        if not self.duplicates:
            there = (whole[..., None] == torch.arange(layout.frames, device=whole.device)).any(1)
            short[..., special:].masked_fill_(there[..., None], float("-inf"))
            again = (whole[:, :, None] == whole[:, None]).tril(-1).any(2)
            full.masked_fill_(again[..., None], float("-inf"))
        return torch.cat([full.flatten(1), short.flatten(1)], 1)[:, None]


@kept_for_later
def _fixed_frames(frames: int, count: int, rule: str) -> Int[Tensor, "1 count"]:
    """Keyframes that no features choose."""
    if rule == "stride":
        return torch.tensor([evenly(frames, count, None)])
    return torch.randperm(frames, generator=torch.Generator().manual_seed(0))[None, :count]


@dataclasses.dataclass(frozen=True)
class FlashVggt(Preset):
    """Steps 3 and 4. `r` and `resample` None: the version's.

    `causal`: frames see themselves and what is kept of earlier ones, as in training for streams;
    `keep_one_in` and `hide_reference` belong to it, see `CausalDescriptorKeys`. See `DescriptorKeys` for
    the rest.
    """

    name = "flash"
    paper = "FlashVGGT (arXiv 2512.01540)"
    about = "keys are special tokens, pooled patches of every frame, and a few whole frames"

    r: int | None = None
    version: str = "v1"
    keyframes: int | None = None
    duplicates: bool = True
    count_bias: float = 0.0
    causal: bool = False
    keep_one_in: int = 1
    hide_reference: bool = False
    resample: Resample | None = None
    specials: bool = True
    first_frame: bool = True
    keyframe_rule: KeyframeRule = "cluster"

    def __post_init__(self) -> None:
        if self.version not in _VERSIONS:
            raise ValueError(f"flash has the versions {', '.join(_VERSIONS)}, not {self.version!r}")
        if self.causal and (self.keyframes or 0) > 1:
            raise ValueError("keyframes are chosen among all frames, which causal=true does not allow")
        if not self.causal and (self.keep_one_in != 1 or self.hide_reference):
            raise ValueError("keep_one_in and hide_reference belong to causal=true")
        if self.causal and not (self.specials and self.first_frame):
            raise ValueError(
                "causal=true keeps specials and the first frame (hide_reference leaves that out)"
            )
        self._keys()

    def _keys(self) -> Keys:
        reduction, resample = _VERSIONS[self.version]
        reduction = reduction if self.r is None else self.r
        resample = resample if self.resample is None else self.resample
        if not self.causal:
            return DescriptorKeys(
                reduction, resample, self.keyframes, self.count_bias, self.duplicates, self.specials,
                self.first_frame, self.keyframe_rule,
            )  # fmt: skip
        return CausalDescriptorKeys(
            reduction, resample, self.count_bias, self.duplicates, self.keep_one_in, self.hide_reference
        )

    def layers(self, depth: int) -> tuple[GlobalAttention, ...]:
        short = GlobalAttention(keys=self._keys())
        if self.version != "v2":
            return (short,) * depth
        first = 9 * depth // 24
        end = max(20 * depth // 24, first + 1)
        return tuple(short if first <= i < end else SAME_FRAME for i in range(depth))
