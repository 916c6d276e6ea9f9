"""DPT head: four taps of the trunk to one value map per frame (Ranftl et al., 2021; VGGT, section 3.3)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from .dense_ops import activate_confidence, activate_values, add_image_plane, convolved_plane, plane_parts
from .layers import Conv2d, ConvTranspose2d, LayerNorm
from .part_configs import DenseHeadConfig
from .precision import PLAIN, Compute, in_dtype, made_once

PLANE_WEIGHT = 0.1


class ResidualUnit(nn.Module):
    """Two 3x3 convolutions. With `relu_skip` the skip carries relu(x): VGGT's first ReLU is in place."""

    def __init__(self, features: int, relu_skip: bool = True) -> None:
        super().__init__()
        self.relu_skip = relu_skip
        self.conv1 = Conv2d(features, features, 3, padding=1)
        self.conv2 = Conv2d(features, features, 3, padding=1)

    def forward(self, x: Tensor, compute: Compute = PLAIN) -> Tensor:
        active = F.relu(x)
        change = self.conv2(F.relu_(self.conv1(active, compute)), compute)
        return change.add_(active if self.relu_skip else x)


class Fusion(nn.Module):
    """Add the lateral map, refine, resize, project.

    The projection, a 1x1 convolution, comes before the resize: the weights of an interpolation sum to one, so
    that both orders are the same and this one has fewer pixels.
    """

    def __init__(self, features: int, lateral: bool = True, relu_skip: bool = True) -> None:
        super().__init__()
        self.out_conv = Conv2d(features, features, 1)
        if lateral:
            self.resConfUnit1 = ResidualUnit(features, relu_skip)
        self.resConfUnit2 = ResidualUnit(features, relu_skip)

    def forward(
        self, x: Tensor, lateral: Tensor | None, size: tuple[int, int], compute: Compute = PLAIN
    ) -> Tensor:
        if lateral is not None:
            x = self.resConfUnit1(lateral, compute).add_(x)
        return resize_map(self.out_conv(self.resConfUnit2(x, compute), compute), size)


class Pyramid(nn.Module):
    """The convolutions that join four maps, under the names of the public checkpoints."""

    def __init__(self, features: int, out_channels: Sequence[int], relu_skip: bool = True) -> None:
        super().__init__()
        self.layer1_rn, self.layer2_rn, self.layer3_rn, self.layer4_rn = (
            Conv2d(channels, features, 3, padding=1, bias=False) for channels in out_channels
        )
        self.refinenet1, self.refinenet2, self.refinenet3 = (
            Fusion(features, relu_skip=relu_skip) for _ in range(3)
        )
        self.refinenet4 = Fusion(features, lateral=False, relu_skip=relu_skip)

    def laterals(self, maps: Sequence[Tensor], compute: Compute = PLAIN) -> list[Tensor]:
        """The maps, all with the same number of channels."""
        convs = (self.layer1_rn, self.layer2_rn, self.layer3_rn, self.layer4_rn)
        return [conv(x, compute) for conv, x in zip(convs, maps, strict=True)]

    def fuse(self, laterals: Sequence[Tensor], times: int, compute: Compute = PLAIN) -> Tensor:
        """Features at `times` the size of the finest lateral."""
        fusions = (self.refinenet1, self.refinenet2, self.refinenet3, self.refinenet4)
        return fuse_laterals(laterals, fusions, times, compute)


def fuse_laterals(
    laterals: Sequence[Tensor], fusions: Sequence[Fusion], times: int, compute: Compute = PLAIN
) -> Tensor:
    """Features at `times` the size of the finest of four laterals; both sequences are finest first."""
    height, width = laterals[0].shape[-2:]
    sizes = [(times * height, times * width), *((x.shape[-2], x.shape[-1]) for x in laterals[:3])]
    x = fusions[3](laterals[3], None, sizes[3], compute)
    for level in (2, 1, 0):
        x = fusions[level](x, laterals[level], sizes[level], compute)
    return x


def output_stack(features: int, output_dim: int) -> nn.Sequential:
    """The last convolutions of a DPT head."""
    return nn.Sequential(Conv2d(features, 32, 3, padding=1), nn.ReLU(), Conv2d(32, output_dim, 1))


class Scratch(Pyramid):
    """VGGT's convolutions between the taps and the output."""

    def __init__(
        self,
        features: int,
        out_channels: Sequence[int],
        output_dim: int | None,
        relu_skip: bool = True,
    ) -> None:
        super().__init__(features, out_channels, relu_skip)
        if output_dim is None:
            self.output_conv1 = Conv2d(features, features, 3, padding=1)
        else:
            self.output_conv1 = Conv2d(features, features // 2, 3, padding=1)
            self.output_conv2 = output_stack(features // 2, output_dim)

    def forward(self, laterals: Sequence[Tensor], compute: Compute = PLAIN) -> Tensor:
        return self.output_conv1(self.fuse(laterals, 2, compute), compute)


class FeatureTapMaps(nn.Module):
    """The part of a DPT head from tokens to four maps: norm, projections, resizing.

    `normalise` is off for taps that are used as they are; `plane_dtype` is that of the angles by which
    places on the image plane are embedded.
    """

    def __init__(
        self,
        dim: int,
        widths: Sequence[int],
        normalise: bool = True,
        plane_dtype: torch.dtype = torch.float64,
    ) -> None:
        super().__init__()
        self.plane_dtype = plane_dtype
        self.norm = LayerNorm(dim) if normalise else None
        self.projects = nn.ModuleList(Conv2d(dim, width, 1) for width in widths)
        self.resize_layers = nn.ModuleList(
            [
                ConvTranspose2d(widths[0], widths[0], 4, stride=4),
                ConvTranspose2d(widths[1], widths[1], 2, stride=2),
                nn.Identity(),
                Conv2d(widths[3], widths[3], 3, stride=2, padding=1),
            ]
        )

    @property
    def dtype(self) -> torch.dtype:
        """Precision of the weights."""
        conv = self.projects[0]
        assert isinstance(conv, Conv2d)
        return conv.weight.dtype

    def largest_map(self, grid: tuple[int, int], image_size: tuple[int, int]) -> int:
        """Elements of the largest map of one frame; sizes are (rows, columns) of patches and pixels."""
        widths = [conv.out_channels for conv in self.projects if isinstance(conv, Conv2d)]
        return grid[0] * grid[1] * max(16 * widths[0], 4 * widths[1], *widths[2:])

    def project(
        self, tokens: Float[Tensor, "*batch patches dim"], index: int, compute: Compute = PLAIN
    ) -> Float[Tensor, "*batch patches width"]:
        """Per-token part of the head for tap `index`: run when the tap is made, so that only this is kept."""
        conv = self.projects[index]
        assert isinstance(conv, Conv2d) and conv.bias is not None
        weight, bias = (in_dtype(parameter, tokens.dtype, compute) for parameter in (conv.weight, conv.bias))
        normed = tokens if self.norm is None else self.norm(tokens, compute)
        return F.linear(normed, weight.flatten(1), bias)

    def maps(
        self,
        taps: Iterable[Float[Tensor, "frames patches width"]],
        grid: tuple[int, int],
        aspect: float | None,
        channels_last: bool = False,
        compute: Compute = PLAIN,
    ) -> list[Float[Tensor, "frames width rows columns"]]:
        """Maps of the projected taps, finest first; `aspect` adds places on the image plane (None: none).

        `channels_last` leaves them in the order of tokens, which convolutions then follow.
        """
        order = torch.channels_last if channels_last else torch.contiguous_format
        maps = []
        for index, tap in enumerate(taps):
            x = tap.transpose(1, 2).unflatten(2, grid)
            if aspect is None:
                x = x.contiguous(memory_format=order)
            else:
                conv = self.projects[index]
                assert isinstance(conv, Conv2d)
                x = add_image_plane(x, self._plane(x, aspect, conv, compute), order)
            resize = self.resize_layers[index]
            maps.append(x if isinstance(resize, nn.Identity) else resize(x, compute))
        return maps

    def conv_with_plane(
        self, conv: Conv2d, x: Float[Tensor, "n channels rows columns"], aspect: float, compute: Compute
    ) -> Float[Tensor, "n out rows columns"]:
        """`conv` of x with the places on the image plane added.

        A convolution is linear: that of the places is made once, and added where channels are few.
        """
        out = conv(x, compute)
        last = out.is_contiguous(memory_format=torch.channels_last) and not out.is_contiguous()
        order = torch.channels_last if last else torch.contiguous_format

        def make(weight: Tensor) -> Tensor:
            precise = torch.promote_types(x.dtype, torch.float32)
            parts = plane_parts(x, aspect, PLANE_WEIGHT, self.plane_dtype, precise)
            plane = convolved_plane(weight.to(precise), parts)
            return plane[None].to(x.dtype, memory_format=order)

        form = ("places, convolved", x.shape[1:], aspect, x.dtype, x.device, order)
        return out.add_(made_once(conv.weight, form, make, compute))

    def _plane(self, x: Tensor, aspect: float, conv: Conv2d, compute: Compute) -> tuple[Tensor, Tensor]:
        """`plane_parts`, once for each size; kept beside the weights of `conv`."""
        form = ("places", x.shape[1:], aspect, x.dtype, x.device)

        def make(_: Tensor) -> tuple[Tensor, Tensor]:
            return plane_parts(x, aspect, PLANE_WEIGHT, self.plane_dtype)

        return made_once(conv.weight, form, make, compute)


class DenseHead(FeatureTapMaps):
    """Value map and confidence, or features, for each frame.

    `dim` is the width of a tap (frame and global outputs side by side). `output_dim` counts the
    values plus one confidence channel; None returns features at 1/`down_ratio` of the image, without
    the image-plane embedding (the tracker's extractor). `scratch`: its convolutions (None: VGGT's).
    """

    def __init__(
        self,
        dim: int,
        config: DenseHeadConfig,
        output_dim: int | None,
        activation: str = "exp",
        conf_activation: str = "expp1",
        down_ratio: int = 1,
        scratch: Scratch | None = None,
        plane_dtype: torch.dtype = torch.float64,
    ) -> None:
        super().__init__(dim, config.out_channels, plane_dtype=plane_dtype)
        self.activation, self.conf_activation = activation, conf_activation
        self.output_dim, self.down_ratio = output_dim, down_ratio
        self.scratch = scratch or Scratch(config.features, config.out_channels, output_dim)

    def forward(
        self,
        taps: Iterable[Float[Tensor, "frames patches width"]],
        grid: tuple[int, int],
        image_size: tuple[int, int],
        channels_last: bool = False,
        compute: Compute = PLAIN,
    ) -> tuple[Tensor, ...] | Tensor:
        """Projected taps of some frames to (values [n, H, W, c], confidence [n, H, W]), or to features.

        `grid` and `image_size` are (rows, columns) of patches and pixels. Convolutions run in the precision
        of the taps; the last one, from which values are raised to the power of e, in that of the weights.
        """
        aspect = image_size[1] / image_size[0] if self.output_dim is not None else None
        maps = self.maps(taps, grid, aspect, channels_last, compute)
        x = self.scratch(self.scratch.laterals(maps, compute), compute)
        if aspect is not None:
            return self.values(x, image_size, compute)
        height, width = (side // self.down_ratio for side in image_size)
        return resize_map(x, (height, width)).to(self.dtype)

    def largest_map(self, grid: tuple[int, int], image_size: tuple[int, int]) -> int:
        fused, last = self.scratch.layer1_rn.out_channels, self.scratch.output_conv1.out_channels
        (rows, columns), (height, width) = grid, (side // self.down_ratio for side in image_size)
        return max(super().largest_map(grid, image_size), 64 * rows * columns * fused, height * width * last)

    def values(self, x: Tensor, image_size: tuple[int, int], compute: Compute) -> tuple[Tensor, Tensor]:
        """Values and confidence from the features of the scratch."""
        height, width = (side // self.down_ratio for side in image_size)
        x = resize_map(x, (height, width))
        first, _, last = self.scratch.output_conv2
        assert isinstance(first, Conv2d)
        x = self.conv_with_plane(first, x, image_size[1] / image_size[0], compute)
        raw = last(F.relu_(x).to(self.dtype), compute).permute(0, 2, 3, 1)
        values = activate_values(raw[..., :-1], self.activation)
        return values, activate_confidence(raw[..., -1], self.conf_activation)


def read_out(
    stack: nn.Sequential, x: Tensor, dtype: torch.dtype, compute: Compute
) -> Float[Tensor, "frames height width channels"]:
    """Raw outputs of an `output_stack`, whose last convolution runs in `dtype`."""
    first, relu, last = stack
    return last(relu(first(x, compute)).to(dtype), compute).permute(0, 2, 3, 1)


def resize_map(x: Tensor, size: tuple[int, int]) -> Tensor:
    """`x` at (rows, columns) `size`: bilinear, the centres of the corners kept."""
    if x.shape[-2:] == size:
        return x
    return F.interpolate(x, size=size, mode="bilinear", align_corners=True)
