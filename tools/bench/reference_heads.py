"""Heads of the reference implementation, every map at full size (VGGT, section 3.3)."""

from __future__ import annotations

import copy
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from manyview.models.dense_head import PLANE_WEIGHT, DenseHead
from manyview.models.dense_ops import activate_confidence, activate_values, embed_image_plane, image_plane
from manyview.models.vggt.camera_head import CameraHead

_FRAMES = 8


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


class ReferenceDPT:
    """DPT (Ranftl et al., 2021) with the weights of `head`: four maps, joined from coarse to fine.

    Called with taps [n, patches, c], and (rows, columns) of patches and pixels. Eight frames at a time, as
    VGGT's; on CPUs in the memory order of tokens, which convolutions prefer there.
    """

    def __init__(self, head: DenseHead) -> None:
        last = next(head.parameters()).device.type == "cpu"
        own: Any = copy.deepcopy(head) if last else head
        self.head = own.to(memory_format=torch.channels_last) if last else own
        self._planes: dict[tuple[Any, ...], Tensor] = {}

    def __call__(
        self, taps: list[Float[Tensor, "n patches c"]], grid: tuple[int, int], size: tuple[int, int]
    ) -> tuple[Float[Tensor, "n h w v"], Float[Tensor, "n h w"]]:
        """Values and confidence of all frames."""
        starts = range(0, len(taps[0]), _FRAMES)
        parts = [self._piece([tap[start : start + _FRAMES] for tap in taps], grid, size) for start in starts]
        if len(parts) == 1:
            return parts[0]
        values, confidence = zip(*parts, strict=True)
        return torch.cat(values), torch.cat(confidence)

    def _piece(
        self, taps: list[Tensor], grid: tuple[int, int], size: tuple[int, int]
    ) -> tuple[Tensor, Tensor]:
        head, aspect = self.head, size[1] / size[0]
        maps = []
        for tap, project, resize in zip(taps, head.projects, head.resize_layers, strict=True):
            x = _norm(head.norm, tap.to(project.weight.dtype))
            x = F.linear(x, project.weight.flatten(1), project.bias)  # the 1 x 1 convolution
            x = x.transpose(1, 2).unflatten(2, grid)
            maps.append(resize(x.add_(self._plane(x, aspect))))
        net: Any = head.scratch
        one, two, three, four = (getattr(net, f"layer{i + 1}_rn")(x) for i, x in enumerate(maps))
        del maps
        x = _fuse(net.refinenet4, four, None, three.shape[-2:])
        x = _fuse(net.refinenet3, x, three, two.shape[-2:])
        x = _fuse(net.refinenet2, x, two, one.shape[-2:])
        x = _fuse(net.refinenet1, x, one, (2 * one.shape[-2], 2 * one.shape[-1]))
        x = net.output_conv1(x)
        x = F.interpolate(x, size=size, mode="bilinear", align_corners=True)
        raw = net.output_conv2(x.add_(self._plane(x, aspect))).permute(0, 2, 3, 1)
        return activate_values(raw[..., :-1], head.activation), activate_confidence(
            raw[..., -1], head.conf_activation
        )

    def _plane(self, x: Tensor, aspect: float) -> Tensor:
        """The embedding of places on the image plane [c, h, w], made once for each size."""
        key = (*x.shape[1:], aspect, x.dtype, x.device)
        if key not in self._planes:
            plane = image_plane(x.shape[-2], x.shape[-1], aspect, x.device)
            embedding = (PLANE_WEIGHT * embed_image_plane(plane, x.shape[1])).to(x.dtype)
            self._planes[key] = embedding.permute(2, 0, 1)
        return self._planes[key]


def _fuse(block: Any, x: Tensor, lateral: Tensor | None, size: tuple[int, ...]) -> Tensor:
    if lateral is not None:
        x = _unit(block.resConfUnit1, lateral).add_(x)
    x = _unit(block.resConfUnit2, x)
    return block.out_conv(F.interpolate(x, size=tuple(size), mode="bilinear", align_corners=True))


def _unit(unit: Any, x: Tensor) -> Tensor:
    """Residual convolutions; where the first ReLU acts in place, as VGGT's, the skip carries it too."""
    active = F.relu_(x) if unit.relu_skip else F.relu(x)
    return unit.conv2(F.relu_(unit.conv1(active))).add_(x)


def _block(block: Any, x: Tensor) -> Tensor:
    attn, (batch, tokens, dim) = block.attn, x.shape
    qkv = _linear(attn.qkv, _norm(block.norm1, x)).view(batch, tokens, 3, attn.num_heads, -1)
    q, k, v = qkv.permute(2, 0, 3, 1, 4)
    heads = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(batch, tokens, dim)
    x = torch.addcmul(x, _linear(attn.proj, heads), block.ls1.gamma)
    hidden = F.gelu(_linear(block.mlp.fc1, _norm(block.norm2, x)))
    return x.addcmul_(_linear(block.mlp.fc2, hidden), block.ls2.gamma)


def _linear(layer: Any, x: Tensor) -> Tensor:
    return F.linear(x, layer.weight, layer.bias)


def _norm(layer: Any, x: Tensor) -> Tensor:
    return F.layer_norm(x, layer.normalized_shape, layer.weight, layer.bias, layer.eps)
