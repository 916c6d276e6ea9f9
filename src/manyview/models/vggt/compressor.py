"""FlashVGGT's learnt compressor: patches of a frame to descriptors by a convolution of each channel."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor, nn


class SpatialCompressor(nn.Module):
    """Depth-wise convolution of r x r patches with stride r, without bias; patches beyond are left out.

    Source: FlashVGGT (arXiv 2512.01540), the ablated alternative to bilinear resizing and the default of the
    released training code.
    """

    def __init__(self, dim: int, reduction: int) -> None:
        super().__init__()
        self.compressor = nn.Conv2d(dim, dim, reduction, stride=reduction, groups=dim, bias=False)

    @property
    def reduction(self) -> int:
        """How many patches of a row or column become one."""
        return self.compressor.kernel_size[0]

    def forward(self, patches: Float[Tensor, "n rows columns dim"]) -> Float[Tensor, "n short dim"]:
        """Descriptors, row-major; both sides must hold a cell."""
        weight = self.compressor.weight.to(patches.dtype)
        maps = nn.functional.conv2d(
            patches.movedim(-1, 1), weight, stride=self.compressor.stride, groups=self.compressor.groups
        )
        return maps.flatten(2).transpose(1, 2)


def add_compressors(blocks: nn.ModuleList, dim: int, reduction: int) -> None:
    """Give the attention of every global block a compressor."""
    for block in blocks:
        block.attn.spatial_compressor = SpatialCompressor(dim, reduction)  # type: ignore[union-attr]
