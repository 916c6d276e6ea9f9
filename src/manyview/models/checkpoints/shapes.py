"""Reading sizes off the shapes of a checkpoint's tensors."""

from __future__ import annotations

import re
from collections.abc import Mapping
from math import isqrt

from ...errors import WeightsError
from ..part_configs import DenseHeadConfig, EncoderConfig
from .keys import Shape


class Shapes:
    """Shapes by key of a checkpoint of `model`.

    Where a key is absent, the published size takes its place if there is one, so that the strict comparison
    that follows can list everything that is missing at once.
    """

    def __init__(self, shapes: Mapping[str, Shape], source: str, model: str) -> None:
        self.shapes, self.source, self.model = shapes, source, model

    def __contains__(self, key: str) -> bool:
        return key in self.shapes

    def __call__(self, key: str, ndim: int, published: Shape | None = None) -> Shape:
        shape = self.shapes.get(key, published)
        if shape is None:
            raise WeightsError(f"{self.source} is an incomplete {self.model} checkpoint: expected {key}")
        if len(shape) != ndim or 0 in shape:
            raise WeightsError(f"{self.source}: {key} has shape {list(shape)}, expected {ndim} dimensions")
        return tuple(shape)

    def has(self, prefix: str) -> bool:
        """Whether a key begins with `prefix`."""
        return any(key.startswith(prefix) for key in self.shapes)

    def count(self, pattern: str) -> int:
        """One more than the largest number `pattern` captures among the keys."""
        found = (re.match(pattern, key) for key in self.shapes)
        return max((int(match.group(1)) + 1 for match in found if match), default=0)

    def heads(self, norm: str, dim: int) -> int:
        """Attention heads of a trunk `dim` wide, from the width of a head's q/k normalisation."""
        head_dim = self(norm, 1, (64,))[0]
        if dim % head_dim:
            raise WeightsError(f"{self.source}: heads {head_dim} wide do not divide a trunk {dim} wide")
        return dim // head_dim

    def mlp_ratio(self, block: str) -> float:
        """Width of the hidden layer of a block's MLP over its own; 4 where it is absent."""
        hidden, width = self(f"{block}mlp.fc1.weight", 2, (4, 1))
        return hidden / width

    def grid(self, positions: str, dim: int) -> int:
        """The side of a square position table with an entry for the class token."""
        entries = self(positions, 3, (1, 37 * 37 + 1, dim))[1] - 1
        if isqrt(entries) ** 2 != entries:
            raise WeightsError(f"{self.source}: {positions} has {entries} patch entries, not a square")
        return isqrt(entries)

    def dino_encoder(self, prefix: str, dim: int, heads: int) -> EncoderConfig:
        """A DINOv2 encoder with as many heads as the trunk, as all published networks have."""
        return EncoderConfig(
            depth=self.count(re.escape(prefix) + r"blocks\.(\d+)\."),
            num_heads=heads,
            registers=self(f"{prefix}register_tokens", 3, (1, 4, dim))[1],
            native_grid=self.grid(f"{prefix}pos_embed", dim),
            mlp_ratio=self.mlp_ratio(f"{prefix}blocks.0."),
        )

    def dense_head(self, prefix: str) -> DenseHeadConfig:
        """A DPT head."""
        published = DenseHeadConfig()
        one, two, three, four = (
            self(f"{prefix}projects.{i}.weight", 4, (width, 1, 1, 1))[0]
            for i, width in enumerate(published.out_channels)
        )
        features = self(f"{prefix}scratch.layer1_rn.weight", 4, (published.features, 1, 1, 1))[0]
        return DenseHeadConfig(features=features, out_channels=(one, two, three, four))
