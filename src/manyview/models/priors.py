"""What may be known beforehand: cameras, intrinsics, depth; some or all of it, for some or all frames."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from ..errors import UsageError


@dataclasses.dataclass(frozen=True)
class Priors:
    """Known parts of an input of [B, S, 3, H, W] images; None is unknown.

    The masks [B, S] choose frames (None: all). `world_from_cam` is in any world and any unit of length,
    `intrinsics` in pixels, `z_depth` in the unit of the cameras (0 or less: unknown pixel).
    """

    world_from_cam: Float[Tensor, "batch frames 4 4"] | None = None
    intrinsics: Float[Tensor, "batch frames 3 3"] | None = None
    z_depth: Float[Tensor, "batch frames height width"] | None = None
    has_pose: Bool[Tensor, "batch frames"] | None = None
    has_intrinsics: Bool[Tensor, "batch frames"] | None = None
    has_depth: Bool[Tensor, "batch frames"] | None = None

    def to(self, device: torch.device) -> Priors:
        """The same on a device."""
        return self._changed(lambda x: x.to(device))

    def of_frames(self, frames: slice) -> Priors:
        """What is known of some frames."""
        return self._changed(lambda x: x[:, frames])

    def _changed(self, change: Callable[[Tensor], Tensor]) -> Priors:
        tensors = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        return Priors(**{name: None if x is None else change(x) for name, x in tensors.items()})

    def check(self, batch: int, frames: int, height: int, width: int) -> None:
        """UsageError for anything that does not belong to images of that shape."""
        shapes = {
            "world_from_cam": (batch, frames, 4, 4),
            "intrinsics": (batch, frames, 3, 3),
            "z_depth": (batch, frames, height, width),
            **dict.fromkeys(("has_pose", "has_intrinsics", "has_depth"), (batch, frames)),
        }
        for name, shape in shapes.items():
            value = getattr(self, name)
            if value is not None and tuple(value.shape) != shape:
                raise UsageError(f"the known {name} must have shape {shape}, not {tuple(value.shape)}")
