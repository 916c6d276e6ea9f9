"""A batch of rendered scenes with exact depth, points and cameras."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor


@dataclass(frozen=True)
class SceneBatch:
    """Rendered scenes, or one without the first dimension.

    Cameras are OpenCV's; pixel centres lie at +0.5; lengths are metres.

    `images` are RGB in [0, 1]. `z_depth` and `world_points` belong to pixel centres and are 0 where
    `valid` is False (the sky); so are the unit world `normals`, where they are known at all.
    """

    images: Float[Tensor, "*b views 3 height width"]
    z_depth: Float[Tensor, "*b views height width"]
    world_points: Float[Tensor, "*b views height width 3"]
    cam_from_world: Float[Tensor, "*b views 3 4"]
    intrinsics: Float[Tensor, "*b views 3 3"]
    valid: Bool[Tensor, "*b views height width"]
    normals: Float[Tensor, "*b views height width 3"] | None = None

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, scenes: slice | Tensor) -> SceneBatch:
        """Some of the scenes, by slice or index tensor."""
        return self._map(lambda value: value[scenes])

    def to(self, device: torch.device | str) -> SceneBatch:
        """The same batch on another device."""
        return self._map(lambda value: value.to(device))

    def _map(self, change: Callable[[Tensor], Tensor]) -> SceneBatch:
        present = {name: value for name, value in vars(self).items() if value is not None}
        return dataclasses.replace(self, **{name: change(value) for name, value in present.items()})
