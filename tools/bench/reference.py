"""Reference implementation of dense VGGT: the best plain PyTorch we know how to write, on the same weights.

The paper's equations with a user's care and none of the library's machinery: one fused attention for each
layer, one query-key-value product, rotary tables made once for a pass, residual sums and rotations in as few
passes over memory as PyTorch's operations allow, no tap that no head reads. The cast policy is the published
code's: the trunk under autocast with float32 weights and a float32 residual path, the heads in float32. The
numbers are the library's up to rounding.
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
from tools.bench.reference_heads import ReferenceDPT, camera_head

_MEAN = (0.485, 0.456, 0.406)
_STD = (0.229, 0.224, 0.225)

Tables = tuple[Tensor, Tensor]


class ReferenceVGGT(nn.Module):
    """Dense VGGT from the equations (arXiv 2503.11651, sections 3.2 and 3.3), on the weights of `model`.

    Called as the model is, without gradients; the plan and the pieces of the options are ignored. Raises
    UsageError for a network of another family.
    """

    def __init__(self, model: Network) -> None:
        super().__init__()
        if not isinstance(model, VGGT):
            raise UsageError(f"no reference implementation of '{model.name}' is here: leave --twin out")
        self.model = model
        heads = {"depth": "depth_head", "points": "point_head"}
        self.dense = {
            name: ReferenceDPT(getattr(model, attribute))
            for name, attribute in heads.items()
            if hasattr(model, attribute)
        }

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
        config, precision = model.config, next(model.parameters()).dtype
        with autocast_to(images.device, options.dtype):
            taps, cameras = self._tokens(images, options.dtype or precision, recorder)
        layout = config.layout(frames, height, width)
        result = Predictions(height, width, layout)
        if "camera" in options.heads:
            result.pose_encoding_list = camera_head(model.camera_head, cameras.to(precision))
            mark(recorder, "camera head")
        for name in (name for name in options.heads if name != "camera"):
            values, confidence = self.dense[name](taps, layout.grid, (height, width))
            values, confidence = (x.unflatten(0, (batch, frames)) for x in (values, confidence))
            if name == "depth":
                result.z_depth, result.depth_conf = values.squeeze(-1), confidence
            else:
                result.world_points, result.world_points_conf = values, confidence
            mark(recorder, f"{name} head")
        return result

    def _tokens(self, images: Tensor, lowest: torch.dtype, recorder: Any) -> tuple[list[Tensor], Tensor]:
        """Taps [B * S, P, 2 C] for the dense heads, and the last layer's camera tokens [B, S, 2 C]."""
        trunk, config = self.model.aggregator, self.model.config
        batch, frames, _, height, width = images.shape
        grid = (height // config.patch_size, width // config.patch_size)
        patches = _encode(trunk.patch_embed, images.flatten(0, 1), grid, config)
        special = torch.cat([trunk.camera_token, trunk.register_token], dim=2)
        special = torch.cat([special[:, :1], special[:, 1:].expand(-1, frames - 1, -1, -1)], dim=1)
        special = special.expand(batch, -1, -1, -1).flatten(0, 1)
        x = torch.cat([special.to(patches.dtype), patches], dim=1)
        places = token_places(grid, config.special_tokens, images.device)
        within = rotary_tables(places, config.dim // config.num_heads, config.rope_base, lowest)
        across = (within[0].repeat(frames, 1), within[1].repeat(frames, 1))
        mark(recorder, "encoder")
        count, dim = x.shape[1:]
        taps: list[Tensor] = []
        for layer in range(config.depth):
            x = block_of(trunk.frame_blocks[layer], x.view(-1, count, dim), within)
            read = layer in config.taps or layer == config.depth - 1
            kept = x.clone() if read else x  # blocks add in place
            mark(recorder, "frame layers")
            x = block_of(trunk.global_blocks[layer], x.view(batch, -1, dim), across, recorder).view_as(x)
            if layer in config.taps:
                tap = torch.cat([t[:, config.special_tokens :] for t in (kept, x)], dim=-1)
                taps += [tap] * config.taps.count(layer)
            mark(recorder, "global layers")
        return taps, torch.cat([kept[:, 0], x[:, 0]], dim=-1).unflatten(0, (batch, frames))


def normalised(images: Float[Tensor, "*batch 3 h w"] | UInt8[Tensor, "*batch 3 h w"]) -> Tensor:
    """By the ImageNet statistics, from uint8 or [0, 1]."""
    images = images.float().div_(255.0) if images.dtype == torch.uint8 else images
    mean, std = (torch.tensor(v, device=images.device).view(3, 1, 1) for v in (_MEAN, _STD))
    return (images - mean).div_(std)


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


def block_of(block: Any, x: Tensor, tables: Tables | None = None, recorder: Any = None) -> Tensor:
    """Attention and MLP, each behind a norm and scaled by LayerScale; `x` is overwritten."""
    x.addcmul_(_attention(block.attn, norm_of(block.norm1, x), tables, recorder), block.ls1.gamma)
    hidden = F.gelu(linear_of(block.mlp.fc1, norm_of(block.norm2, x)))
    return x.addcmul_(linear_of(block.mlp.fc2, hidden), block.ls2.gamma)


def _attention(attn: Any, x: Tensor, tables: Tables | None, recorder: Any) -> Tensor:
    batch, tokens, dim = x.shape
    qkv = linear_of(attn.qkv, x).view(batch, tokens, 3, attn.num_heads, attn.head_dim)
    q, k, v = qkv.unbind(2)
    if isinstance(attn.q_norm, nn.LayerNorm):
        q, k = norm_of(attn.q_norm, q), norm_of(attn.k_norm, k)
    q, k, v = (part.transpose(1, 2) for part in (q, k, v))
    if tables is not None:
        q, k = rotated(q, *tables), rotated(k, *tables)
    stretch = getattr(recorder, "stretch", None)
    with contextlib.nullcontext() if stretch is None else stretch("attention"):
        heads = F.scaled_dot_product_attention(q, k, v)
    return linear_of(attn.proj, heads.transpose(1, 2).reshape(batch, tokens, dim))


def rotated(
    x: Float[Tensor, "b h n d"], cos: Float[Tensor, "n d"], sin: Float[Tensor, "n d"]
) -> Float[Tensor, "b h n d"]:
    """2-D rotary positions (Su et al., 2021): half of a head turns with the row, half with the column."""
    x = x.contiguous()
    one, two, three, four = x.chunk(4, dim=-1)
    return torch.cat([two, one, four, three], dim=-1).mul_(sin).addcmul_(x, cos)


def rotary_tables(places: Int[Tensor, "n 2"], head_dim: int, base: float, dtype: torch.dtype) -> Tables:
    """Cosines and signed sines [n, head_dim] of tokens at (row, column), in the precision of queries."""
    quarter = head_dim // 4
    exponent = torch.arange(quarter, device=places.device).float() / quarter
    angles = places.float()[..., None] / base**exponent
    cos, sin = angles.cos().to(dtype), angles.sin().to(dtype)
    return torch.stack([cos, cos], dim=2).flatten(1), torch.stack([-sin, sin], dim=2).flatten(1)


def token_places(grid: tuple[int, int], specials: int, device: torch.device) -> Int[Tensor, "n 2"]:
    """Row and column of each token of a frame; special tokens stand at (0, 0), the first patch at (1, 1)."""
    rows, columns = (torch.arange(1, side + 1, device=device) for side in grid)
    patches = torch.cartesian_prod(rows, columns)
    return torch.cat([patches.new_zeros(specials, 2), patches])


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
