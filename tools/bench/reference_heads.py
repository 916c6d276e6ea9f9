"""Heads of the reference implementation: all frames at once, every map at full size (VGGT, section 3.3)."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from manyview.models.dense_head import PLANE_WEIGHT, DenseHead
from manyview.models.dense_ops import activate_confidence, activate_values, embed_image_plane, image_plane
from manyview.models.vggt.camera_head import CameraHead


def camera_head(head: CameraHead, tokens: Float[Tensor, "b s c"]) -> list[Float[Tensor, "b s 9"]]:
    """Pose encodings after each of the passes that refine them."""
    tokens = _norm(head.token_norm, tokens)
    estimate: Tensor | None = None
    results = []
    for _ in range(head.iterations):
        before = head.empty_pose_tokens.expand(*tokens.shape[:2], -1) if estimate is None else estimate
        linear: Any = head.poseLN_modulation[1]
        shift, scale, gate = _linear(linear, F.silu(_linear(head.embed_pose, before))).chunk(3, dim=-1)
        x = tokens + gate * (_norm(head.adaln_norm, tokens) * (1 + scale) + shift)
        for block in head.trunk:
            x = _block(block, x)
        x = _norm(head.trunk_norm, x)
        step = _linear(head.pose_branch.fc2, F.gelu(_linear(head.pose_branch.fc1, x)))
        estimate = step if estimate is None else estimate + step
        results.append(torch.cat([estimate[..., :7], F.relu(estimate[..., 7:])], dim=-1))
    return results


def dense_head(
    head: DenseHead, taps: list[Float[Tensor, "n patches c"]], grid: tuple[int, int], size: tuple[int, int]
) -> tuple[Float[Tensor, "n h w v"], Float[Tensor, "n h w"]]:
    """DPT (Ranftl et al., 2021): four maps from taps of full width, joined from coarse to fine."""
    aspect = size[1] / size[0]
    maps = []
    for index, tap in enumerate(taps):
        x = _norm(head.norm, tap).transpose(1, 2).reshape(len(tap), -1, *grid)
        x = head.projects[index](x)
        maps.append(head.resize_layers[index](_with_plane(x, aspect)))
    net: Any = head.scratch
    one, two, three, four = (getattr(net, f"layer{i + 1}_rn")(x) for i, x in enumerate(maps))
    x = _fuse(net.refinenet4, four, None, three.shape[-2:])
    x = _fuse(net.refinenet3, x, three, two.shape[-2:])
    x = _fuse(net.refinenet2, x, two, one.shape[-2:])
    x = _fuse(net.refinenet1, x, one, tuple(2 * side for side in one.shape[-2:]))
    x = net.output_conv1(x)
    x = F.interpolate(x, size=size, mode="bilinear", align_corners=True)
    raw = net.output_conv2(_with_plane(x, aspect)).permute(0, 2, 3, 1)
    return activate_values(raw[..., :-1], head.activation), activate_confidence(
        raw[..., -1], head.conf_activation
    )


def _fuse(block: Any, x: Tensor, lateral: Tensor | None, size: Any) -> Tensor:
    if lateral is not None:
        x = x + _unit(block.resConfUnit1, lateral)
    x = _unit(block.resConfUnit2, x)
    return block.out_conv(F.interpolate(x, size=tuple(size), mode="bilinear", align_corners=True))


def _unit(unit: Any, x: Tensor) -> Tensor:
    """Residual convolutions; where the first ReLU acts in place, as VGGT's, the skip carries it too."""
    active = F.relu(x)
    return (active if unit.relu_skip else x) + unit.conv2(F.relu(unit.conv1(active)))


def _with_plane(x: Tensor, aspect: float) -> Tensor:
    plane = image_plane(x.shape[-2], x.shape[-1], aspect, x.device)
    return x + PLANE_WEIGHT * embed_image_plane(plane, x.shape[1]).permute(2, 0, 1)


def _block(block: Any, x: Tensor) -> Tensor:
    attn, (batch, tokens, dim) = block.attn, x.shape
    qkv = _linear(attn.qkv, _norm(block.norm1, x)).reshape(batch, tokens, 3, attn.num_heads, -1)
    q, k, v = qkv.permute(2, 0, 3, 1, 4)
    heads = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(batch, tokens, dim)
    x = x + block.ls1.gamma * _linear(attn.proj, heads)
    hidden = F.gelu(_linear(block.mlp.fc1, _norm(block.norm2, x)))
    return x + block.ls2.gamma * _linear(block.mlp.fc2, hidden)


def _linear(layer: Any, x: Tensor) -> Tensor:
    return F.linear(x, layer.weight, layer.bias)


def _norm(layer: Any, x: Tensor) -> Tensor:
    return F.layer_norm(x, layer.normalized_shape, layer.weight, layer.bias, layer.eps)
