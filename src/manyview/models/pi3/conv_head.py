"""Pi3X's convolutional head, which is MoGe's (arXiv 2410.19115): features to pixels in three doublings."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from ..dense_ops import image_plane

_GROUP = 32
_UNITS = 2


def _conv(inputs: int, outputs: int) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, 3, padding=1, padding_mode="replicate")


class _Unit(nn.Module):
    """Residual unit: two group-normalised convolutions, twice as wide inside."""

    def __init__(self, channels: int, hidden: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.GroupNorm(1, channels),
            nn.ReLU(),
            _conv(channels, hidden),
            nn.GroupNorm(max(1, hidden // _GROUP), hidden),
            nn.ReLU(),
            _conv(hidden, channels),
        )

    def forward(self, x: Tensor) -> Tensor:
        return x + self.layers(x)


class ConvHead(nn.Module):
    """Maps of `outputs` values each, at the size of the image.

    Before every stage the position on the image plane joins as two channels. `widths` are the channels of
    the three stages, `last` those before the final 1x1 convolution.
    """

    def __init__(
        self,
        dim: int,
        widths: tuple[int, int, int],
        outputs: tuple[int, ...],
        last: int,
        hidden_times: int = 2,
    ) -> None:
        super().__init__()
        inputs = (dim, *widths[:2])
        self.upsample_blocks = nn.ModuleList(
            nn.Sequential(
                nn.Sequential(nn.ConvTranspose2d(before + 2, width, 2, 2), _conv(width, width)),
                *(_Unit(width, hidden_times * width) for _ in range(_UNITS)),
            )
            for before, width in zip(inputs, widths, strict=True)
        )
        self.output_block = nn.ModuleList(
            nn.Sequential(_conv(widths[-1] + 2, last), nn.ReLU(), nn.Conv2d(last, values, 1))
            for values in outputs
        )

    def forward(
        self, x: Float[Tensor, "n patches dim"], grid: tuple[int, int], size: tuple[int, int]
    ) -> list[Float[Tensor, "n values height width"]]:
        """`grid` is (rows, columns) of patches, `size` (height, width) of the image."""
        maps = x.transpose(1, 2).unflatten(2, grid)
        aspect = size[1] / size[0]
        for block in self.upsample_blocks:
            maps = block(_with_plane(maps, aspect))
        maps = F.interpolate(maps, size, mode="bilinear", align_corners=False)
        maps = _with_plane(maps, aspect)
        return [block(maps) for block in self.output_block]


def _with_plane(maps: Tensor, aspect: float) -> Tensor:
    height, width = maps.shape[-2:]
    plane = image_plane(height, width, aspect, maps.device).to(maps.dtype)
    return torch.cat([maps, plane.permute(2, 0, 1).expand(len(maps), -1, -1, -1)], 1)
