"""The head of Depth Anything 3's networks for single views: depth and sky (arXiv 2511.10647, section 4)."""

from __future__ import annotations

from collections.abc import Iterable

from jaxtyping import Float
from torch import Tensor, nn

from ..dense_head import FeatureTapMaps, Scratch, output_stack, read_out, resize_map
from ..dense_ops import activate_values
from ..part_configs import DenseHeadConfig
from ..precision import PLAIN, Compute


class SkyScratch(Scratch):
    """DPT's convolutions, with a second output stack."""

    def __init__(self, config: DenseHeadConfig) -> None:
        super().__init__(config.features, config.out_channels, 1, relu_skip=False)
        self.sky_output_conv2 = output_stack(config.features // 2, 1)


class SkyHead(FeatureTapMaps):
    """Depth and a sky score, at least 0, of each pixel: a DPT without norm, embedding and confidence."""

    def __init__(self, dim: int, config: DenseHeadConfig) -> None:
        super().__init__(dim, config.out_channels, normalise=False)
        self.scratch = SkyScratch(config)

    def forward(
        self,
        taps: Iterable[Float[Tensor, "frames patches width"]],
        grid: tuple[int, int],
        image_size: tuple[int, int],
        channels_last: bool = False,
        compute: Compute = PLAIN,
    ) -> tuple[Float[Tensor, "frames height width 1"], Float[Tensor, "frames height width"]]:
        """Projected taps of some frames to depth and sky; `grid`, `image_size` are (rows, columns)."""
        scratch = self.scratch
        maps = self.maps(taps, grid, None, channels_last, compute)
        x = resize_map(scratch(scratch.laterals(maps, compute), compute), image_size)

        def read(stack: nn.Sequential, activation: str) -> Tensor:
            return activate_values(read_out(stack, x, self.dtype, compute), activation)

        return read(scratch.output_conv2, "exp"), read(scratch.sky_output_conv2, "relu")[..., 0]
