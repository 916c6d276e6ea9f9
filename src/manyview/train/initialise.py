"""Initial weights with which a small VGGT does not get stuck at a constant prediction.

With default initial weights a small transformer fills its residual stream with one shared vector and attends
uniformly. This initialisation was found to prevent it: LayerScale near one half, a sine position table,
output biases at the data mean, and global attention that begins as a content-matching kernel (query =
key with the position directions projected out).
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ..errors import UsageError
from ..models.blocks import Attention, Block
from ..models.encoder import DinoEncoder
from ..models.vggt.model import VGGT
from .config import TrainConfig


def sine_table(grid: tuple[int, int], dim: int, amplitude: float = 0.5) -> Float[Tensor, "patches dim"]:
    """Sines and cosines of row and column, a quarter of the channels each, at amplitude `amplitude`."""
    rows, columns = grid
    frequencies = math.pi * torch.linspace(0.5, 3.0, dim // 4)
    y = torch.linspace(0, 1, rows)[:, None] * frequencies
    x = torch.linspace(0, 1, columns)[:, None] * frequencies
    y_part = torch.cat([y.sin(), y.cos()], 1)[:, None].expand(rows, columns, -1)
    x_part = torch.cat([x.sin(), x.cos()], 1)[None].expand(rows, columns, -1)
    return amplitude * torch.cat([y_part, x_part], -1).flatten(0, 1)


def _reset_linear(module: nn.Module, generator: torch.Generator) -> None:
    """Weights at std 1/sqrt(fan in), biases at zero."""
    for part in module.modules():
        if isinstance(part, (nn.Linear, nn.Conv2d)):
            fan_in = part.weight[0].numel()
            nn.init.normal_(part.weight, std=fan_in**-0.5, generator=generator)
            if part.bias is not None:
                nn.init.zeros_(part.bias)
        elif isinstance(part, nn.ConvTranspose2d):
            nn.init.normal_(part.weight, std=part.weight.shape[0] ** -0.5, generator=generator)
            if part.bias is not None:
                nn.init.zeros_(part.bias)


def _match_by_content(
    attention: Attention, table: Tensor, rope_base: float, gain: float, generator: torch.Generator
) -> None:
    """Start a global layer with query = key, blind to position, its energy in slowly rotating channels.

    The rotary embedding turns channel pairs by up to one radian a patch; pairs that turn slowly keep the
    product of equal contents high at any displacement.
    """
    heads, head_dim = attention.num_heads, attention.head_dim
    dim = heads * head_dim
    _, singular, directions = torch.linalg.svd(table - table.mean(0), full_matrices=False)
    kept = directions[singular > 1e-3 * singular[0]]
    blind = torch.eye(dim) - kept.T @ kept
    weight = torch.randn(heads, head_dim, dim, generator=generator) * dim**-0.5
    quarter = head_dim // 4
    speed = rope_base ** -(torch.arange(quarter) / quarter)
    strength = torch.where(speed < 0.25, 1.0, 0.3)
    # Each half of the head (rows, columns) rotates channel c together with channel c + a quarter.
    tied = (weight * strength.repeat(4)[None, :, None]).flatten(0, 1) @ blind
    with torch.no_grad():
        attention.qkv.weight[:dim] = tied
        attention.qkv.weight[dim : 2 * dim] = tied
        for norm in (attention.q_norm, attention.k_norm):
            if isinstance(norm, nn.LayerNorm):
                norm.weight.fill_(gain)


def initialise(model: VGGT, config: TrainConfig) -> None:
    """Set every weight of a fresh model in place, from the config's seed."""
    generator = torch.Generator().manual_seed(config.seed)
    encoder = model.aggregator.patch_embed
    if not isinstance(encoder, DinoEncoder):
        raise UsageError("training from scratch needs a model with an encoder, not a plain patch convolution")
    _reset_linear(model, generator)
    side = encoder.config.native_grid
    table = sine_table((side, side), config.model.dim)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith(("ls1.gamma", "ls2.gamma")):
                parameter.fill_(config.layer_scale)
            elif name.endswith(("camera_token", "register_token", "register_tokens", "cls_token")):
                parameter.normal_(std=0.3, generator=generator)
        encoder.pos_embed[0, 1:] = table
    for block in model.aggregator.global_blocks:
        assert isinstance(block, Block)
        _match_by_content(block.attn, table, config.model.rope_base, config.attention_gain, generator)


def set_output_biases(model: VGGT, depth: float, camera: Float[Tensor, " 9"]) -> None:
    """Start the heads at the mean z-depth and pose encoding of the data, with small weights."""
    with torch.no_grad():
        dense = {"depth_head": [math.log(depth)], "point_head": [0.0, 0.0, math.log1p(depth)]}
        for name, bias in dense.items():
            head = getattr(model, name, None)
            if head is not None:
                last = head.scratch.output_conv2[2]
                last.weight.mul_(0.1)
                last.bias[: len(bias)] = torch.tensor(bias, device=last.bias.device)
        branch = model.camera_head.pose_branch.fc2
        branch.weight.mul_(0.1)
        # The refinement steps add up to the estimate.
        branch.bias.copy_(camera / model.camera_head.iterations)
