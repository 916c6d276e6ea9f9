"""The trunk of VGGT: an encoder, then alternating frame and global blocks (VGGT, section 3.2)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ..attention.global_attention import LayerRun
from ..attention.layout import TokenLayout
from ..attention.plan import Plan
from ..errors import UsageError
from .blocks import Block
from .config import VGGTConfig
from .encoder import DinoEncoder, PatchConv
from .recording import mark
from .rotary import frame_positions, rotation_for
from .run_options import RunOptions

_IMAGE_MEAN = (0.485, 0.456, 0.406)
_IMAGE_STD = (0.229, 0.224, 0.225)

TapReader = Callable[[int, Tensor, Tensor], None]


class Trunk(nn.Module):
    """Images to token taps. Parameter names are those of the public checkpoints' `aggregator`."""

    def __init__(self, config: VGGTConfig) -> None:
        super().__init__()
        self.config = config
        dim = config.dim
        # Two learned sets: index 0 for the frame that defines the world, index 1 for all others.
        self.camera_token = nn.Parameter(torch.zeros(1, 2, 1, dim))
        self.register_token = nn.Parameter(torch.zeros(1, 2, config.registers, dim))
        self.patch_embed: DinoEncoder | PatchConv = (
            PatchConv(dim, config.patch_size)
            if config.encoder is None
            else DinoEncoder(dim, config.patch_size, config.encoder)
        )
        self.frame_blocks, self.global_blocks = (
            nn.ModuleList(
                Block(dim, config.num_heads, config.mlp_ratio, qk_norm=True) for _ in range(config.depth)
            )
            for _ in range(2)
        )

    def layout(self, frames: int, height: int, width: int) -> TokenLayout:
        """Token layout of `frames` images; raises UsageError unless both sides are multiples of the patch."""
        patch = self.config.patch_size
        if height % patch or width % patch:
            raise UsageError(f"image sides must be multiples of {patch} pixels, got {height}x{width}")
        return TokenLayout(frames, self.config.special_tokens, (height // patch, width // patch))

    def forward(
        self,
        images: Tensor,
        plan: Plan,
        options: RunOptions,
        read_tap: TapReader,
        recorder: Any = None,
    ) -> TokenLayout:
        """Run all layers on images [B, S, 3, H, W] (uint8, or floating in [0, 1]).

        After each pair, `read_tap(layer, frame_tokens, global_tokens)` receives both outputs
        [B, S, P, C] if the layer is one of the reader's; it must copy what it keeps.
        """
        _, frames, _, height, width = images.shape
        layout = self.layout(frames, height, width)
        if len(plan.layers) != self.config.depth:
            raise UsageError(
                f"the plan has {len(plan.layers)} layers, this network has {self.config.depth} global layers"
            )
        x = self._embed(images, layout, options)
        mark(recorder, "encoder")
        rotation = rotation_for(
            frame_positions(layout.grid, layout.special_tokens, images.device),
            self.config.dim // self.config.num_heads,
            self.config.rope_base,
        )
        inplace = not torch.is_grad_enabled()
        piece = options.frame_piece if inplace else None
        wanted = getattr(read_tap, "layers", range(self.config.depth))
        features = x.float().mean(2) if any(m.needs_frame_features for m in plan.layers) else None
        memory: dict[Any, Any] = {}
        for layer in range(self.config.depth):
            x = self._frame_layer(layer, x, rotation, piece, inplace)
            mark(recorder, "frame layers")
            frame_tokens = x.clone() if inplace and layer in wanted else x
            run = LayerRun(layer, piece, recorder, features, memory)
            meeting = plan.layers[layer]
            x = self.global_blocks[layer](
                x.flatten(1, 2),
                meet=lambda attn, y, m=meeting, r=run: m(attn, y, layout, rotation, r),
                mlp_piece=options.mlp_piece,
                inplace=inplace,
            ).unflatten(1, (frames, -1))
            if layer in wanted:
                read_tap(layer, frame_tokens, x)
            del frame_tokens
            mark(recorder, "global layers")
            if hasattr(recorder, "global_tokens"):
                recorder.global_tokens(layer, x)
        return layout

    def _embed(self, images: Tensor, layout: TokenLayout, options: RunOptions) -> Float[Tensor, "b s p c"]:
        """Encoder patches behind the special tokens, written frame piece by frame piece."""
        batch, frames = images.shape[:2]
        dtype = options.dtype or self.camera_token.dtype
        flat = images.flatten(0, 1)
        encoder = self.patch_embed
        positions = encoder.position_embedding(layout.grid) if isinstance(encoder, DinoEncoder) else None
        specials = self._special_tokens(batch, frames).to(dtype)

        def encode(part: Tensor) -> Tensor:
            part = normalise_images(part, dtype)
            return encoder(part) if positions is None else encoder(part, positions)

        if torch.is_grad_enabled() or options.frame_piece is None:
            return torch.cat([specials, encode(flat).unflatten(0, (batch, frames))], dim=2)
        x = specials.new_empty(batch * frames, layout.tokens_per_frame, self.config.dim)
        x[:, : layout.special_tokens] = specials.flatten(0, 1)
        for start in range(0, len(flat), options.frame_piece):
            stop = start + options.frame_piece
            x[start:stop, layout.special_tokens :] = encode(flat[start:stop])
        return x.unflatten(0, (batch, frames))

    def _special_tokens(self, batch: int, frames: int) -> Float[Tensor, "b s n c"]:
        tokens = torch.cat([self.camera_token, self.register_token], dim=2)
        first, others = tokens[:, :1], tokens[:, 1:]
        return torch.cat([first, others.expand(-1, frames - 1, -1, -1)], dim=1).expand(batch, -1, -1, -1)

    def _frame_layer(self, layer: int, x: Tensor, rotation: Any, piece: int | None, inplace: bool) -> Tensor:
        block = self.frame_blocks[layer]
        flat = x.flatten(0, 1)  # a view: pieces below are overwritten in place
        if piece is None:
            return block(flat, rotation, inplace=inplace).unflatten(0, x.shape[:2])
        for start in range(0, len(flat), piece):
            block(flat[start : start + piece], rotation, inplace=True)
        return x


def normalise_images(images: Float[Tensor, "n 3 h w"], dtype: torch.dtype) -> Float[Tensor, "n 3 h w"]:
    """ImageNet statistics applied to uint8 images, or to images in [0, 1]."""
    if images.dtype == torch.uint8:
        images = images.float() / 255.0
    mean = torch.tensor(_IMAGE_MEAN, dtype=images.dtype, device=images.device).view(3, 1, 1)
    std = torch.tensor(_IMAGE_STD, dtype=images.dtype, device=images.device).view(3, 1, 1)
    return ((images - mean) / std).to(dtype)
