"""Operations of the parts that networks are made of, two per multiply-add."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

from .part_configs import EncoderConfig

POSE_NUMBERS = 9  # of a camera head: translation, quaternion, two fields of view


def linear(rows: int, inputs: int, outputs: int) -> float:
    """A linear layer on `rows` vectors."""
    return 2.0 * rows * inputs * outputs


def mlp(dim: int, ratio: float) -> float:
    """Two linear layers, for one token."""
    return 2 * linear(1, dim, int(dim * ratio))


def block(tokens: int, dim: int, ratio: float) -> float:
    """A transformer block with self-attention among all `tokens`."""
    return tokens * (linear(4, dim, dim) + mlp(dim, ratio)) + 4.0 * tokens**2 * dim


def pyramid(features: int, widths: tuple[int, int, int, int], grid: tuple[int, int]) -> float:
    """A DPT on one frame, from projected taps to fused features.

    Source: Ranftl et al., 2021, section 3.
    """
    rows, columns = grid
    patches = rows * columns
    areas = (16 * patches, 4 * patches, patches, ((rows + 1) // 2) * ((columns + 1) // 2))
    resize = (
        conv(4, widths[0], widths[0], patches)  # transposed: counted on its input
        + conv(2, widths[1], widths[1], patches)
        + conv(3, widths[3], widths[3], areas[3])
    )
    lateral = sum(conv(3, width, features, area) for width, area in zip(widths, areas, strict=True))
    return resize + lateral + fusions(features, grid)


def fusions(features: int, grid: tuple[int, int]) -> float:
    """The fusions of a `pyramid`, from maps of one width on."""
    rows, columns = grid
    patches = rows * columns
    areas = (16 * patches, 4 * patches, patches, ((rows + 1) // 2) * ((columns + 1) // 2))
    # Coarsest first: one residual unit there, two at each finer level; then 1x1, then resized.
    units = sum(
        number * 2 * conv(3, features, features, area)
        for number, area in zip((2, 2, 2, 1), areas, strict=True)
    )
    return units + sum(conv(1, features, features, area) for area in areas)


def places(kernel: int, inputs: int, outputs: int, size: tuple[int, int]) -> float:
    """A convolution of the image plane's embedding alone, once a pass (`dense_ops.convolved_plane`)."""
    rows, columns = size
    area = min(rows, kernel) * columns + rows * min(columns, kernel)
    return conv(kernel, inputs // 2, outputs, area)


@runtime_checkable
class DenseHeadSizes(Protocol):
    """Widths of a DPT head."""

    @property
    def features(self) -> int: ...
    @property
    def out_channels(self) -> tuple[int, int, int, int]: ...


def dense_head(head: DenseHeadSizes, values: int | None, grid: tuple[int, int], patch_size: int) -> float:
    """A `dense_head.DenseHead` on one frame, from projected taps to `values` (None: to its features)."""
    features, patches = head.features, grid[0] * grid[1]
    total = pyramid(features, head.out_channels, grid)
    if values is None:
        return total + conv(3, features, features, 64 * patches)
    pixels = patches * patch_size**2
    total += conv(3, features, features // 2, 64 * patches)
    return total + conv(3, features // 2, 32, pixels) + conv(1, 32, values, pixels)


def conv(kernel: int, inputs: int, outputs: int, area: int) -> float:
    """A convolution with `area` outputs."""
    return linear(area, kernel**2 * inputs, outputs)


def encoder(config: EncoderConfig | None, dim: int, patch_size: int, patches: int) -> float:
    """Patch embedding and encoder on one frame."""
    embedding = linear(patches, 3 * patch_size**2, dim)
    if config is None:
        return embedding
    return embedding + config.depth * block(patches + 1 + config.registers, dim, config.mlp_ratio)
