"""Parts of the dense heads without weights: output activations and the image-plane embedding."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from ..errors import UsageError


def activate_values(raw: Float[Tensor, "*batch n"], kind: str) -> Float[Tensor, "*batch n"]:
    """Values from raw head outputs; `kind` names the activation of a published head."""
    if kind == "exp":
        return raw.exp()
    if kind == "inv_log":
        return raw.sign() * torch.expm1(raw.abs())
    if kind == "linear":
        return raw
    if kind == "relu":
        return F.relu(raw)
    if kind == "sigmoid":
        return raw.sigmoid()
    if kind in ("norm", "norm_exp"):
        length = raw.norm(dim=-1, keepdim=True)
        direction = raw / length.clamp(min=1e-8)
        return direction if kind == "norm" else direction * torch.expm1(length)
    if kind == "xy_inv_log":
        z = raw[..., 2:].sign() * torch.expm1(raw[..., 2:].abs())
        return torch.cat([raw[..., :2] * z, z], dim=-1)
    raise UsageError(f"unknown value activation {kind!r}")


def activate_confidence(raw: Tensor, kind: str) -> Tensor:
    """Confidence from a raw channel: "expp1" (at least 1), "expp0" (positive) or "sigmoid"."""
    if kind == "expp1":
        return 1 + raw.exp()
    if kind == "expp0":
        return raw.exp()
    if kind == "sigmoid":
        return raw.sigmoid()
    raise UsageError(f"unknown confidence activation {kind!r}")


def image_plane(
    height: int, width: int, aspect: float, device: torch.device | str | None = None
) -> Float[Tensor, "height width 2"]:
    """(u, v) of each cell on the image plane, normalised by its diagonal; `aspect` is width / height."""
    u, v = plane_axes(height, width, aspect, device)
    return torch.stack([u.expand(height, width), v[:, None].expand(height, width)], dim=-1)


def plane_axes(
    height: int, width: int, aspect: float, device: torch.device | str | None = None
) -> tuple[Float[Tensor, " width"], Float[Tensor, " height"]]:
    """u of each column and v of each row of `image_plane`."""
    diagonal = (aspect**2 + 1.0) ** 0.5
    span_u = aspect / diagonal * (width - 1) / width
    span_v = 1.0 / diagonal * (height - 1) / height
    u = torch.linspace(-span_u, span_u, width, dtype=torch.float32, device=device)
    v = torch.linspace(-span_v, span_v, height, dtype=torch.float32, device=device)
    return u, v


def embed_image_plane(
    uv: Float[Tensor, "height width 2"],
    channels: int,
    base: float = 100.0,
    dtype: torch.dtype = torch.float64,
) -> Float[Tensor, "height width channels"]:
    """Sines and cosines of u (first half of the channels) and of v (second half)."""
    halves = [embed_coordinate(uv[..., axis].flatten(), channels // 2, base, dtype) for axis in (0, 1)]
    return torch.cat(halves, dim=-1).unflatten(0, uv.shape[:2])


def embed_coordinate(
    values: Float[Tensor, " n"], channels: int, base: float = 100.0, dtype: torch.dtype = torch.float64
) -> Float[Tensor, "n channels"]:
    """Sines, then cosines, of the values at geometric frequencies; angles are of `dtype`, results float32."""
    home = values.device
    precise = "cpu" if home.type == "mps" else home  # Apple's GPU has no float64
    exponent = torch.arange(channels // 2, dtype=dtype, device=precise) / (channels // 2)
    angles = values.to(precise, dtype)[:, None] * (1.0 / base**exponent)
    return torch.cat([angles.sin(), angles.cos()], dim=-1).float().to(home)


def plane_parts(
    x: Float[Tensor, "n channels rows columns"],
    aspect: float,
    weight: float,
    angles: torch.dtype = torch.float64,
    dtype: torch.dtype | None = None,
) -> tuple[Float[Tensor, "half one columns"], Float[Tensor, "half rows one"]]:
    """weight * embedding of `x`'s places: that of u, for half of the channels, and that of v, for the others.

    u depends on the column alone and v on the row alone, so the embedding is never made at full size.
    `angles` is the precision of the angles, `dtype` that of the result (None: that of x).
    """
    rows, columns = x.shape[-2:]
    half = x.shape[1] // 2
    u, v = plane_axes(rows, columns, aspect, x.device)
    across, down = (
        weight * embed_coordinate(axis, half, dtype=angles).to(dtype or x.dtype).T for axis in (u, v)
    )
    return across[:, None], down[..., None]


def add_image_plane(
    x: Float[Tensor, "n channels rows columns"],
    parts: tuple[Float[Tensor, "half one columns"], Float[Tensor, "half rows one"]],
    order: torch.memory_format = torch.contiguous_format,
) -> Float[Tensor, "n channels rows columns"]:
    """x + the embedding of each cell's place (`plane_parts`), in the memory order `order`."""
    halves = tuple(zip(x.chunk(2, dim=1), parts, strict=True))
    if torch.is_grad_enabled():
        return torch.cat([half + part for half, part in halves], dim=1).contiguous(memory_format=order)
    result = torch.empty_like(x, memory_format=order)
    for (half, part), out in zip(halves, result.chunk(2, dim=1), strict=True):
        torch.add(half, part, out=out)
    return result


def convolved_plane(
    kernel: Float[Tensor, "out channels height width"],
    parts: tuple[Float[Tensor, "half one columns"], Float[Tensor, "half rows one"]],
) -> Float[Tensor, "out rows columns"]:
    """A convolution of the embedding alone, zeros around it so that its size stays.

    Away from the border the part of u is the same in each row and that of v in each column: few rows and few
    columns are enough.
    """
    across, down = (part.to(kernel.dtype) for part in parts)
    padding = (kernel.shape[2] // 2, kernel.shape[3] // 2)
    sizes = (down.shape[1], across.shape[2])
    few = [min(size, 2 * pad + 1) for size, pad in zip(sizes, padding, strict=True)]
    across, down = across.expand(-1, few[0], -1), down.expand(-1, -1, few[1])
    first, second = (
        F.conv2d(part[None], weight, padding=padding)[0]
        for part, weight in zip((across, down), kernel.chunk(2, dim=1), strict=True)
    )
    rows, columns = (
        torch.maximum(place.clamp(max=pad), place - (len(place) - count))
        for place, pad, count in zip(
            (torch.arange(size, device=kernel.device) for size in sizes), padding, few, strict=True
        )
    )
    return first[:, rows] + second[:, :, columns]
