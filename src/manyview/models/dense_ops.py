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


def add_image_plane(
    x: Float[Tensor, "n channels rows columns"],
    aspect: float,
    weight: float,
    inplace: bool = False,
    order: torch.memory_format = torch.contiguous_format,
    dtype: torch.dtype = torch.float64,
) -> Float[Tensor, "n channels rows columns"]:
    """x + weight * embedding of each cell's place on the image plane, whose angles are of `dtype`.

    u depends on the column alone and v on the row alone, so the embedding is never made at full size.
    `inplace` overwrites x (without gradients only); a new result has the memory order `order`.
    """
    rows, columns = x.shape[-2:]
    half = x.shape[1] // 2
    u, v = plane_axes(rows, columns, aspect, x.device)
    across = weight * embed_coordinate(u, half, dtype=dtype).to(x.dtype).T[:, None, :]
    down = weight * embed_coordinate(v, half, dtype=dtype).to(x.dtype).T[:, :, None]
    if torch.is_grad_enabled():
        joined = torch.cat([x[:, :half] + across, x[:, half:] + down], dim=1)
        return joined if inplace else joined.contiguous(memory_format=order)
    x = x if inplace else x.clone(memory_format=order)
    x[:, :half] += across
    x[:, half:] += down
    return x
