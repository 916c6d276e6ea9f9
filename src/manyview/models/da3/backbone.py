"""DINOv2 as Depth Anything 3 has it, within views alone or with global blocks in turn (arXiv 2511.10647)."""

from __future__ import annotations

from collections.abc import Callable
from typing import cast

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from ...attention.layout import TokenLayout
from ...distributed.ranks import Ranks
from ..alternating import AlternatingLayers, Known, normalise_images
from ..blocks import Block
from ..encoder import PatchConv, resized_positions
from ..layers import LayerNorm, Mlp, SwiGlu, in_slices
from ..precision import PLAIN, Compute
from ..rotary import Rotation, frame_positions, frame_rotation, rotation_for
from ..run_options import RunOptions
from .config import DA3Config, TransformerConfig
from .reference_view import RestoredOrder, reference_first

_BLOCK_EPS = 1e-6
_POSITION_OFFSET = 0.1


class VisionTransformer(nn.Module):
    """Patch embedding, blocks and the norm of what heads read. `norm` is applied by who reads.

    From block `alternating_from` on queries and keys are normalised (None: nowhere).
    """

    def __init__(self, config: TransformerConfig, alternating_from: int | None = None) -> None:
        super().__init__()
        dim, first = config.dim, config.layers if alternating_from is None else alternating_from
        self.config = config
        self.cls_token = nn.Parameter(torch.zeros(1, 1, dim))
        self.pos_embed = nn.Parameter(torch.zeros(1, 1 + config.native_grid**2, dim))
        self.patch_embed = PatchConv(dim, config.patch_size)
        self.blocks = nn.ModuleList(
            Block(
                dim,
                config.num_heads,
                config.mlp_ratio,
                qk_norm=number >= first,
                eps=_BLOCK_EPS,
                mlp=SwiGlu if config.swiglu else Mlp,
            )
            for number in range(config.layers)
        )
        self.norm = LayerNorm(dim)

    def block(self, number: int) -> Block:
        """One of all blocks."""
        return cast(Block, self.blocks[number])

    def position_embedding(self, grid: tuple[int, int]) -> Float[Tensor, "1 tokens dim"]:
        """Position table for `grid`, class entry first."""
        return resized_positions(self.pos_embed, self.config.native_grid, grid, _POSITION_OFFSET)

    def within_views(
        self,
        images: Float[Tensor, "n 3 height width"],
        positions: Float[Tensor, "1 tokens dim"],
        stop: int,
        before_block: Callable[[int, Tensor], None] | None = None,
        compute: Compute = PLAIN,
    ) -> Float[Tensor, "n tokens dim"]:
        """Class token and patches of normalised images after the blocks before `stop`, each view by itself.

        `positions` comes from `position_embedding`. `before_block` is given the tokens that enter each block,
        and must copy what it keeps.
        """
        patches = self.patch_embed(images, compute=compute)
        positions = positions.to(patches.dtype)
        cls = (self.cls_token.to(patches.dtype) + positions[:, :1]).expand(len(patches), -1, -1)
        x = torch.cat([cls, patches + positions[:, 1:]], dim=1)
        inplace = not torch.is_grad_enabled()
        for number in range(stop):
            if before_block is not None:
                before_block(number, x)
            x = self.block(number)(x, inplace=inplace, compute=compute)
            compute.block_done()
        return x


class CameraTokens(Known):
    """What takes the class token's place before the global blocks: the learned tokens, or `given` ones.

    Args:
        learned: [1, 2, C], for the first view and for the others.
        given: [B, S, C], of known cameras; there is no reference view then.
        reference: How the view that comes first is chosen, one of `run_options.REFERENCE_VIEWS`.
        continues: The reference view is not among these.

    Attributes:
        order: The view at each place; set by a pass.
    """

    def __init__(
        self,
        learned: Float[Tensor, "1 2 dim"],
        given: Float[Tensor, "batch frames dim"] | None = None,
        reference: str = "first",
        continues: bool = False,
    ) -> None:
        self._learned, self._given, self._continues = learned, given, continues
        self._reference = "first" if given is not None or continues else reference
        self.order: RestoredOrder | None = None

    @property
    def frame_order(self) -> Int[Tensor, "batch frames"] | None:
        return None if self.order is None else self.order.views

    @property
    def known(self) -> bool:
        """Whether the tokens are those of known cameras."""
        return self._given is not None

    def placed(
        self, x: Float[Tensor, "b s p c"], entering: Float[Tensor, "b s c"], ranks: Ranks | None
    ) -> Float[Tensor, "b s p c"]:
        """Views in order with camera tokens in front; `entering` are the class tokens that rules read."""
        self.order = reference_first(entering, self._reference, ranks)
        x = self.order.apply(x)
        tokens = self._given
        if tokens is None:
            later = self._continues or (ranks is not None and ranks.split.first > 0)
            first, others = self._learned[:, 1:] if later else self._learned[:, :1], self._learned
            tokens = torch.cat([first, others[:, 1:].expand(-1, x.shape[1] - 1, -1)], dim=1)
        tokens = tokens.to(x.dtype).expand(len(x), -1, -1)
        if torch.is_grad_enabled():
            return torch.cat([tokens[:, :, None], x[:, :, 1:]], dim=2)
        x[:, :, 0] = tokens
        return x


class AlternatingTransformer(VisionTransformer, AlternatingLayers):
    """The backbone of the any-view networks: blocks within views, then global ones in turn."""

    config: DA3Config

    def __init__(self, config: DA3Config) -> None:
        super().__init__(config, config.alternating_from)
        self.camera_token = nn.Parameter(torch.zeros(1, 2, config.dim))

    def frame_block(self, layer: int) -> Block | None:
        number = self._global(layer) - 1
        return self.block(number) if number >= self.config.alternating_from else None

    def global_block(self, layer: int) -> Block:
        return self.block(self._global(layer))

    def _global(self, layer: int) -> int:
        return self.config.layers - 1 - 2 * (self.config.depth - 1 - layer)

    def rotations(self, layout: TokenLayout, device: torch.device) -> tuple[Rotation, Rotation]:
        """Patches by row and column within views; all at (1, 1) in global blocks."""
        head_dim, base = self.config.dim // self.config.num_heads, self.config.rope_base
        together = frame_positions(layout.grid, layout.special_tokens, device).clamp(max=1)
        return frame_rotation(layout, head_dim, base, device), rotation_for(together, head_dim, base)

    def embed(
        self,
        images: Tensor,
        layout: TokenLayout,
        options: RunOptions,
        compute: Compute,
        known: Known | None = None,
    ) -> Float[Tensor, "b s p c"]:
        """Tokens that enter the first pair, the reference view in front; `known` must be `CameraTokens`."""
        assert isinstance(known, CameraTokens)
        dtype = options.dtype or self.cls_token.dtype
        flat, stop = images.flatten(0, 1), self.config.alternating_from
        positions = self.position_embedding(layout.grid)

        def encode(part: slice) -> list[Tensor]:
            entering: list[Tensor] = []

            def keep(number: int, x: Tensor) -> None:
                if number == stop - 1:
                    entering.append(x[:, 0].clone())

            pixels = normalise_images(flat[part], dtype)
            return [self.within_views(pixels, positions, stop, keep, compute), *entering]

        piece = None if torch.is_grad_enabled() else options.frames_per_chunk
        compute = compute.in_pieces((piece or len(flat)) < len(flat))
        x, entering = in_slices(encode, len(flat), piece)
        x, entering = (tokens.unflatten(0, images.shape[:2]) for tokens in (x, entering))
        return known.placed(x, entering, options.ranks)


class Backbone(nn.Module):
    """A transformer under the name that checkpoints have."""

    def __init__(self, transformer: VisionTransformer) -> None:
        super().__init__()
        self.pretrained = transformer
