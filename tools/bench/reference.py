"""Reference implementation of dense VGGT in plain PyTorch, timed beside the library.

The same weights and results as `models.vggt`, none of its care: one query-key-value product that is then
permuted, positions turned with cosines and sines gathered for every token, residuals as new tensors, taps
kept at full width, heads over all frames at once, and lower precision by autocast with a single-precision
residual path. Nothing in it is slow on purpose.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int, UInt8
from torch import Tensor, nn

from manyview.attention.plan import Plan
from manyview.errors import UsageError
from manyview.models.network import Network
from manyview.models.predictions import Predictions
from manyview.models.recording import mark
from manyview.models.run_options import RunOptions
from manyview.models.vggt.config import VGGTConfig
from manyview.models.vggt.model import VGGT
from tools.bench.reference_heads import camera_head, dense_head

_MEAN = (0.485, 0.456, 0.406)
_STD = (0.229, 0.224, 0.225)


class ReferenceVGGT(nn.Module):
    """Dense VGGT from the equations (arXiv 2503.11651, sections 3.2 and 3.3), on the weights of `model`.

    Called as the model is; the plan and the pieces of the options are ignored. Raises UsageError for a
    network of another family.
    """

    def __init__(self, model: Network) -> None:
        super().__init__()
        if not isinstance(model, VGGT):
            raise UsageError(f"no reference implementation of '{model.name}' is here: leave --twin out")
        self.model = model

    def forward(
        self,
        images: Tensor,
        plan: Plan | None = None,
        options: RunOptions | None = None,
        recorder: Any = None,
    ) -> Predictions:
        """Predictions for images [S, 3, H, W] or [B, S, 3, H, W], uint8 or in [0, 1]."""
        model, options = self.model, options or RunOptions()
        images = images if images.ndim == 5 else images[None]
        batch, frames, _, height, width = images.shape
        config = model.config
        with autocast_to(images.device, options.dtype):
            taps, last = self._tokens(images, recorder)
        layout = model.config.layout(frames, height, width)
        result = Predictions(height, width, layout)
        precision = next(model.parameters()).dtype
        if "camera" in options.heads:
            result.pose_encoding_list = camera_head(model.camera_head, last[:, :, 0].to(precision))
            mark(recorder, "camera head")
        for name in (name for name in options.heads if name != "camera"):
            head = model.depth_head if name == "depth" else model.point_head
            patches = [tap[:, :, config.special_tokens :].flatten(0, 1).to(precision) for tap in taps]
            values, confidence = dense_head(head, patches, layout.grid, (height, width))
            values, confidence = (x.unflatten(0, (batch, frames)) for x in (values, confidence))
            if name == "depth":
                result.z_depth, result.depth_conf = values.squeeze(-1), confidence
            else:
                result.world_points, result.world_points_conf = values, confidence
            mark(recorder, f"{name} head")
        return result

    def _tokens(self, images: Float[Tensor, "b s 3 h w"], recorder: Any) -> tuple[list[Tensor], Tensor]:
        """Taps [B, S, P, 2 C] for the dense heads, and the last layer's."""
        trunk, config = self.model.aggregator, self.model.config
        batch, frames, _, height, width = images.shape
        grid = (height // config.patch_size, width // config.patch_size)
        patches = _encode(trunk.patch_embed, images.flatten(0, 1), grid, config)
        special = torch.cat([trunk.camera_token, trunk.register_token], dim=2)
        special = torch.cat([special[:, :1], special[:, 1:].expand(-1, frames - 1, -1, -1)], dim=1)
        special = special.expand(batch, -1, -1, -1).flatten(0, 1)
        x = torch.cat([special.to(patches.dtype), patches], dim=1)
        places = token_places(grid, config.special_tokens, images.device).expand(batch * frames, -1, -1)
        tables = angle_tables(
            max(grid) + 1, config.dim // config.num_heads // 2, config.rope_base, images.device
        )
        mark(recorder, "encoder")
        count, dim = x.shape[1:]
        taps: list[Tensor] = []
        last = x
        for layer in range(config.depth):
            x = block_of(trunk.frame_blocks[layer], x.reshape(-1, count, dim), places, tables)
            within = x
            mark(recorder, "frame layers")
            x = x.reshape(batch, frames * count, dim)
            everywhere = places.reshape(batch, frames * count, 2)
            x = block_of(trunk.global_blocks[layer], x, everywhere, tables, recorder)
            last = torch.cat([t.reshape(batch, frames, count, dim) for t in (within, x)], dim=-1)
            taps += [last] * config.taps.count(layer)
            mark(recorder, "global layers")
        return taps, last


def normalised(images: Float[Tensor, "*batch 3 h w"] | UInt8[Tensor, "*batch 3 h w"]) -> Tensor:
    """By the ImageNet statistics, from uint8 or [0, 1]."""
    images = images.float() / 255.0 if images.dtype == torch.uint8 else images
    mean, std = (torch.tensor(v, device=images.device).view(3, 1, 1) for v in (_MEAN, _STD))
    return (images - mean) / std


def _encode(encoder: Any, images: Tensor, grid: tuple[int, int], config: VGGTConfig) -> Tensor:
    """Patch tokens: a convolution, or DINOv2 with registers (Oquab et al., 2023; Darcet et al., 2023)."""
    images = normalised(images)
    embed = encoder if config.encoder is None else encoder.patch_embed
    x = F.conv2d(images, embed.proj.weight, embed.proj.bias, stride=embed.proj.stride)
    x = x.flatten(2).transpose(1, 2)
    if config.encoder is None:
        return x
    positions = encoder.position_embedding(grid)
    cls = encoder.cls_token.expand(len(x), -1, -1) + positions[:, :1]
    x = torch.cat([cls, encoder.register_tokens.expand(len(x), -1, -1), x + positions[:, 1:]], dim=1)
    for block in encoder.blocks:
        x = block_of(block, x)
    return norm_of(encoder.norm, x)[:, 1 + config.encoder.registers :]


def block_of(
    block: Any, x: Tensor, places: Tensor | None = None, tables: Any = None, recorder: Any = None
) -> Tensor:
    """Attention and MLP, each behind a norm and scaled by LayerScale."""
    x = x + block.ls1.gamma * _attention(block.attn, norm_of(block.norm1, x), places, tables, recorder)
    hidden = F.gelu(linear_of(block.mlp.fc1, norm_of(block.norm2, x)))
    return x + block.ls2.gamma * linear_of(block.mlp.fc2, hidden)


def _attention(attn: Any, x: Tensor, places: Tensor | None, tables: Any, recorder: Any) -> Tensor:
    batch, tokens, dim = x.shape
    qkv = linear_of(attn.qkv, x).reshape(batch, tokens, 3, attn.num_heads, attn.head_dim)
    q, k, v = qkv.permute(2, 0, 3, 1, 4)
    if isinstance(attn.q_norm, nn.LayerNorm):
        q, k = norm_of(attn.q_norm, q), norm_of(attn.k_norm, k)
    if places is not None:
        q, k = _turn(q, places, tables), _turn(k, places, tables)
    stretch = getattr(recorder, "stretch", None)
    with contextlib.nullcontext() if stretch is None else stretch("attention"):
        heads = F.scaled_dot_product_attention(q.to(v.dtype), k.to(v.dtype), v)
    return linear_of(attn.proj, heads.transpose(1, 2).reshape(batch, tokens, dim))


def _turn(x: Float[Tensor, "b h n d"], places: Int[Tensor, "b n 2"], tables: tuple[Tensor, Tensor]) -> Tensor:
    """2-D rotary positions (Su et al., 2021): half of a head turns with the row, half with the column."""
    halves = []
    for axis, half in enumerate(x.chunk(2, dim=-1)):
        cos, sin = (F.embedding(places[..., axis], table.to(x.dtype))[:, None] for table in tables)
        first, second = half.chunk(2, dim=-1)
        halves.append(half * cos + torch.cat([-second, first], dim=-1) * sin)
    return torch.cat(halves, dim=-1)


def angle_tables(count: int, width: int, base: float, device: torch.device) -> tuple[Tensor, Tensor]:
    """Cosines and sines [places, width] for heads whose halves are `width` wide."""
    exponent = torch.arange(0, width, 2, device=device).float() / width
    angles = torch.arange(count, device=device).float()[:, None] / base**exponent
    angles = torch.cat([angles, angles], dim=-1)
    return angles.cos(), angles.sin()


def token_places(grid: tuple[int, int], specials: int, device: torch.device) -> Int[Tensor, "1 n 2"]:
    """Row and column of each token of a frame; special tokens stand at (0, 0), the first patch at (1, 1)."""
    rows, columns = (torch.arange(1, side + 1, device=device) for side in grid)
    patches = torch.cartesian_prod(rows, columns)
    return torch.cat([patches.new_zeros(specials, 2), patches])[None]


# The library's own layers follow the dtype of their input, which autocast must be left to decide here.
def linear_of(layer: Any, x: Tensor) -> Tensor:
    return F.linear(x, layer.weight, layer.bias)


def norm_of(layer: Any, x: Tensor) -> Tensor:
    return F.layer_norm(x, layer.normalized_shape, layer.weight, layer.bias, layer.eps)


@contextlib.contextmanager
def autocast_to(device: torch.device, dtype: torch.dtype | None) -> Iterator[None]:
    if dtype in (None, torch.float32, torch.float64):
        yield
        return
    with torch.autocast(device.type, dtype=dtype):
        yield
