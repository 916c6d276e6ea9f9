"""FlashVGGT's two public versions on any number of layers."""

from __future__ import annotations

import dataclasses
from typing import Literal

from ..causal_descriptor_keys import CausalDescriptorKeys
from ..dense import OwnFrameKeys
from ..descriptor_keys import DescriptorKeys
from ..global_attention import GlobalAttention

_REDUCTION = {"v1": 4, "v2": 3, "learnt": 3}
_RESAMPLE: dict[str, Literal["bilinear", "nearest", "learnt"]] = {
    "v1": "bilinear",
    "v2": "nearest",
    "learnt": "learnt",
}


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
        if not self.causal and (self.keep_one_in != 1 or self.hide_reference):
            raise ValueError("keep_one_in and hide_reference belong to causal=true")
        self._keys()

    def _keys(self) -> DescriptorKeys | CausalDescriptorKeys:
        short = self._short()
        return CausalDescriptorKeys(short, self.keep_one_in, self.hide_reference) if self.causal else short

    def _short(self) -> DescriptorKeys:
        return DescriptorKeys(
            reduction=_REDUCTION[self.version] if self.r is None else self.r,
            resample=_RESAMPLE[self.version],
            keyframes=self.keyframes,
            count_bias=self.count_bias,
            duplicates=self.duplicates,
        )

    def layers(self, depth: int) -> tuple[GlobalAttention, ...]:
        """One answer per global layer."""
        short = GlobalAttention(keys=self._keys())
        if self.version != "v2":
            return (short,) * depth
        first = 9 * depth // 24
        end = max(20 * depth // 24, first + 1)
        own = GlobalAttention(keys=OwnFrameKeys())
        return tuple(short if first <= i < end else own for i in range(depth))
