"""VGGT-Ω's trunk written from its description: every mask materialised, one head at a time, float64."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from manyview.models.omega.config import OmegaConfig

Weights = dict[str, Tensor]


def _norm(x: Tensor, w: Weights, name: str) -> Tensor:
    return torch.nn.functional.layer_norm(x, x.shape[-1:], w[f"{name}.weight"], w[f"{name}.bias"], 1e-5)


def _angles(grid: tuple[int, int], head_dim: int) -> Tensor:
    """[patches, head_dim]: row angles, column angles, and both again."""
    rows = []
    for i in range(grid[0]):
        for j in range(grid[1]):
            places = [2 * (k + 0.5) / max(grid) - 1 for k in (i, j)]
            one = [
                2 * math.pi * place / 100 ** (2 * f / (head_dim / 2))
                for place in places
                for f in range(head_dim // 4)
            ]
            rows.append(one + one)
    return torch.tensor(rows, dtype=torch.float64)


def _turn(x: Tensor, angles: Tensor) -> Tensor:
    """Element i pairs with i + head_dim / 2; only the last tokens turn."""
    still, patches = x[: len(x) - len(angles)], x[len(x) - len(angles) :]
    half = x.shape[1] // 2
    beside = torch.cat([-patches[:, half:], patches[:, :half]], 1)
    return torch.cat([still, patches * angles.cos() + beside * angles.sin()])


def _block(
    x: Tensor, w: Weights, name: str, heads: int, angles: Tensor | None, may_see: Tensor | None = None
) -> Tensor:
    """One block on tokens [N, C]; `may_see` [N, N] says which keys a query sees."""
    dim = x.shape[1]
    y = _norm(x, w, f"{name}.norm1")
    bias = w[f"{name}.attn.qkv.bias"].clone()
    bias[dim : 2 * dim] = 0
    q, k, v = (y @ w[f"{name}.attn.qkv.weight"].T + bias).split(dim, 1)
    outputs = []
    for head in range(heads):
        part = slice(head * dim // heads, (head + 1) * dim // heads)
        qh, kh = q[:, part], k[:, part]
        if f"{name}.attn.q_norm.weight" in w:
            qh, kh = _norm(qh, w, f"{name}.attn.q_norm"), _norm(kh, w, f"{name}.attn.k_norm")
        if angles is not None:
            qh, kh = _turn(qh, angles), _turn(kh, angles)
        scores = qh @ kh.T / math.sqrt(qh.shape[1])
        if may_see is not None:
            scores = scores.masked_fill(~may_see, -math.inf)
        outputs.append(scores.softmax(1) @ v[:, part])
    attended = torch.cat(outputs, 1) @ w[f"{name}.attn.proj.weight"].T + w[f"{name}.attn.proj.bias"]
    x = x + w[f"{name}.ls1.gamma"] * attended
    hidden = _norm(x, w, f"{name}.norm2") @ w[f"{name}.mlp.fc1.weight"].T + w[f"{name}.mlp.fc1.bias"]
    hidden = 0.5 * hidden * (1 + torch.erf(hidden / math.sqrt(2)))
    return x + w[f"{name}.ls2.gamma"] * (hidden @ w[f"{name}.mlp.fc2.weight"].T + w[f"{name}.mlp.fc2.bias"])


def last_tokens(images: Tensor, w: Weights, c: OmegaConfig) -> Tensor:
    """Frame and inter-frame outputs of the last pair [S, P, 2 C] of images [S, 3, H, W] in [0, 1]."""
    mean, std = (torch.tensor(v).double()[:, None, None] for v in
                 ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))  # fmt: skip
    grid = (images.shape[2] // c.patch_size, images.shape[3] // c.patch_size)
    frames = []
    for number, image in enumerate((images - mean) / std):
        patches = torch.nn.functional.conv2d(
            image[None], w["patch_embed.patch_embed.proj.weight"], w["patch_embed.patch_embed.proj.bias"],
            stride=c.patch_size,
        )[0].flatten(1).T  # fmt: skip
        x = torch.cat([w["patch_embed.cls_token"][0], w["patch_embed.storage_tokens"][0], patches])
        heads = c.encoder.num_heads
        for layer in range(c.encoder.depth):
            x = _block(x, w, f"patch_embed.blocks.{layer}", heads, _angles(grid, c.dim // heads))
        x = _norm(x, w, "patch_embed.norm")[1 + c.encoder.registers :]
        which = min(number, 1)
        frames.append(torch.cat([w["camera_token"][0, which], w["register_token"][0, which], x]))
    angles = _angles(grid, c.dim // c.num_heads)
    count, special = len(frames[0]), c.special_tokens
    is_special = (torch.arange(count) < special).repeat(len(frames))
    for pair in range(c.pairs):
        frames = [_block(x, w, f"frame_blocks.{pair}", c.num_heads, angles) for x in frames]
        before = torch.cat(frames)
        name, heads = f"inter_frame_blocks.{pair}", c.num_heads
        if pair in c.register_layers:
            met = _block(before, w, name, heads, None, is_special[None].expand(len(before), -1))
            after = torch.where(is_special[:, None], met, before)
        else:
            after = _block(before, w, name, heads, None)
        frames = list(after.split(count))
    return torch.cat([before, after], 1).unflatten(0, (-1, count))
