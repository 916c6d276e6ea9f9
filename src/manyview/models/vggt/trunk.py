"""The trunk of VGGT: an encoder, then alternating frame and global blocks (VGGT, section 3.2)."""

from __future__ import annotations

from torch import Tensor, nn

from ...attention.layout import TokenLayout
from ..alternating import Aggregator, Known
from ..blocks import Block
from ..encoder import DinoEncoder, PatchConv
from ..precision import Compute
from .config import VGGTConfig


class Trunk(Aggregator):
    """Images to feature taps. Parameter names are those of the public checkpoints' `aggregator`."""

    patch_embed: DinoEncoder | PatchConv
    global_blocks: nn.ModuleList

    def __init__(self, config: VGGTConfig) -> None:
        dim, patch = config.dim, config.patch_size
        super().__init__(
            config,
            PatchConv(dim, patch) if config.encoder is None else DinoEncoder(dim, patch, config.encoder),
            lambda: Block(dim, config.num_heads, config.mlp_ratio, qk_norm=True),
            "global_blocks",
        )


class LaterFrames(Known):
    """Frames that continue a scene: none is the reference, so the first gets the others' special tokens."""

    def __init__(self, trunk: Trunk) -> None:
        self._trunk = trunk

    def embedded(self, x: Tensor, layout: TokenLayout, compute: Compute) -> Tensor:
        x[:, 0, : layout.special_tokens] = self._trunk.special_tokens(1, 2)[:, 1].to(x.dtype)
        return x
