"""π³'s decoders and heads: patch features to local points, confidences and camera poses."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from ..blocks import Block
from ..layers import Linear
from ..precision import PLAIN, Compute
from ..rotary import Rotation

_EPS = 1e-6


class HeadDecoder(nn.Module):
    """A few blocks of attention within frames between two linear layers."""

    def __init__(self, in_dim: int, dim: int, depth: int, num_heads: int, out_dim: int) -> None:
        super().__init__()
        self.projects = Linear(in_dim, dim)
        self.blocks = nn.ModuleList(Block(dim, num_heads, eps=_EPS, layer_scale=False) for _ in range(depth))
        self.linear_out = Linear(dim, out_dim)

    def forward(
        self, x: Float[Tensor, "n tokens in_dim"], rotation: Rotation, compute: Compute = PLAIN
    ) -> Float[Tensor, "n tokens out_dim"]:
        x = self.projects(x)
        inplace = not torch.is_grad_enabled()
        for block in self.blocks:
            x = block(x, rotation, inplace=inplace, compute=compute)
        return self.linear_out(x)


class PixelHead(nn.Module):
    """One linear layer from a patch's features to all its pixels."""

    def __init__(self, dim: int, patch_size: int, values: int) -> None:
        super().__init__()
        self.patch_size = patch_size
        self.proj = Linear(dim, values * patch_size**2)

    def forward(
        self, x: Float[Tensor, "n patches dim"], grid: tuple[int, int]
    ) -> Float[Tensor, "n height width values"]:
        maps = self.proj(x).transpose(1, 2).unflatten(2, grid)
        return F.pixel_shuffle(maps, self.patch_size).movedim(1, 3)


class _ResidualUnit(nn.Module):
    def __init__(self, dim: int) -> None:
        super().__init__()
        self.res_conv1, self.res_conv2, self.res_conv3 = (Linear(dim, dim) for _ in range(3))

    def forward(self, x: Tensor) -> Tensor:
        branch = F.relu(self.res_conv2(F.relu(self.res_conv1(x))))
        return x + F.relu(self.res_conv3(branch))


class PoseHead(nn.Module):
    """Patch features of a frame to its pose, camera to world."""

    def __init__(self, dim: int, units: int = 2) -> None:
        super().__init__()
        self.res_conv = nn.ModuleList(_ResidualUnit(dim) for _ in range(units))
        self.more_mlps = nn.Sequential(Linear(dim, dim), nn.ReLU(), Linear(dim, dim), nn.ReLU())
        self.fc_t = Linear(dim, 3)
        self.fc_rot = Linear(dim, 9)

    def forward(self, x: Float[Tensor, "n patches dim"]) -> Float[Tensor, "n 4 4"]:
        for unit in self.res_conv:
            x = unit(x)
        pooled = self.more_mlps(x.mean(1))
        rotation, translation = nearest_rotation(self.fc_rot(pooled)), self.fc_t(pooled)
        pose = torch.cat([rotation, translation[..., None]], -1)
        last_row = pose.new_tensor((0.0, 0.0, 0.0, 1.0)).expand(len(pose), 1, 4)
        return torch.cat([pose, last_row], 1)


def nearest_rotation(numbers: Float[Tensor, "*batch 9"]) -> Float[Tensor, "*batch 3 3"]:
    """The rotation nearest to a row-major matrix whose rows are first brought to unit length."""
    rows = F.normalize(numbers.unflatten(-1, (3, 3)), dim=-1)
    u, _, vh = torch.linalg.svd(rows)
    sign = torch.linalg.det(u @ vh)
    ones = torch.ones_like(sign)
    return u @ torch.diag_embed(torch.stack([ones, ones, sign], -1)) @ vh


def local_points(raw: Float[Tensor, "*shape 3"]) -> Float[Tensor, "*shape 3"]:
    """(x z, y z, z) with z = exp of the third number, in the camera's frame."""
    z = raw[..., 2:].exp()
    return torch.cat([raw[..., :2] * z, z], -1)
