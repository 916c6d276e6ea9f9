"""Depth Anything 3's head: depth and rays from the same four taps (arXiv 2511.10647, section 3.2)."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Sequence
from itertools import pairwise

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from ..dense_head import DenseHead, Fusion, Scratch, fuse_laterals
from ..dense_ops import activate_confidence
from ..layers import Conv2d, LayerNorm
from ..part_configs import DenseHeadConfig
from ..precision import PLAIN, Compute

_HIDDEN = 32
_RAY_CHANNELS = 7  # direction, origin, confidence


class DualScratch(Scratch):
    """DPT's convolutions, and a second set that reads rays from the same laterals.

    Checkpoints hold four output stacks for rays, one per level; only the finest, number 3, is used. Their
    norm is one module that is stored with number 0.
    """

    def __init__(self, features: int, out_channels: Sequence[int]) -> None:
        super().__init__(features, out_channels, 2, relu_skip=False)
        half = features // 2
        self.refinenet1_aux, self.refinenet2_aux, self.refinenet3_aux = (
            Fusion(features, relu_skip=False) for _ in range(3)
        )
        self.refinenet4_aux = Fusion(features, lateral=False, relu_skip=False)
        widths = (features, half, features, half, features, half)
        self.output_conv1_aux = nn.ModuleList(
            nn.Sequential(*(Conv2d(a, b, 3, padding=1) for a, b in pairwise(widths))) for _ in range(4)
        )
        self.output_conv2_aux = nn.ModuleList(_ray_stack(half, level == 0) for level in range(4))

    def ray_features(self, laterals: Sequence[Tensor], compute: Compute) -> Tensor:
        """Features at twice the size of the finest lateral."""
        fusions = (self.refinenet1_aux, self.refinenet2_aux, self.refinenet3_aux, self.refinenet4_aux)
        x = fuse_laterals(laterals, fusions, 2, compute)
        convs = self.output_conv1_aux[3]
        assert isinstance(convs, nn.Sequential)
        for conv in convs:
            x = conv(x, compute)
        return x

    def rays(self, x: Tensor, dtype: torch.dtype, compute: Compute) -> Tensor:
        """Seven raw channels, last, from outputs of stack 3's first convolution; its last runs in `dtype`."""
        norm, used = self.output_conv2_aux[0].get_submodule("2"), self.output_conv2_aux[3]
        x = F.relu(norm(x.permute(0, 2, 3, 1), compute)).permute(0, 3, 1, 2)
        return used.get_submodule("5")(x.to(dtype), compute).permute(0, 2, 3, 1)


class DualHead(DenseHead):
    """Depth and its confidence at the image's size, and rays at 8 x 8 per patch where they are wanted."""

    scratch: DualScratch

    def __init__(self, dim: int, config: DenseHeadConfig) -> None:
        scratch = DualScratch(config.features, config.out_channels)
        super().__init__(dim, config, 2, scratch=scratch, plane_dtype=torch.float32)

    def forward(
        self,
        taps: Iterable[Float[Tensor, "frames patches width"]],
        grid: tuple[int, int],
        image_size: tuple[int, int],
        channels_last: bool = False,
        compute: Compute = PLAIN,
        rays: bool = False,
    ) -> tuple[Tensor, ...]:
        """Projected taps of some frames to depth and rays.

        Args:
            taps: Four taps, as `project` makes them.
            grid: (rows, columns) of patches.
            image_size: (rows, columns) of pixels.
            channels_last: Memory order of the maps.
            compute: The run's kernels and converted weights.
            rays: Whether to run the second branch.

        Returns:
            z-depth [n, H, W, 1] and confidence [n, H, W]; with `rays` also a map [n, 8h, 8w, 6] of the
            direction and the origin of each ray in the world, and its confidence [n, 8h, 8w].
        """
        aspect, scratch = image_size[1] / image_size[0], self.scratch
        laterals = scratch.laterals(self.maps(taps, grid, aspect, channels_last, compute), compute)
        depth = self.values(scratch(laterals, compute), image_size, compute)
        if not rays:
            return depth
        x = scratch.ray_features(laterals, compute)
        first = scratch.output_conv2_aux[3].get_submodule("0")
        assert isinstance(first, Conv2d)
        raw = scratch.rays(self.conv_with_plane(first, x, aspect, compute), self.dtype, compute)
        return *depth, raw[..., :-1], activate_confidence(raw[..., -1], "expp1")


def _ray_stack(features: int, with_norm: bool) -> nn.Sequential:
    """Convolutions "0" and "5", with the norm between them that all levels share as "2"."""
    parts: list[tuple[str, nn.Module]] = [("0", Conv2d(features, _HIDDEN, 3, padding=1))]
    if with_norm:
        parts.append(("2", LayerNorm(_HIDDEN)))
    return nn.Sequential(OrderedDict([*parts, ("5", Conv2d(_HIDDEN, _RAY_CHANNELS, 1))]))
