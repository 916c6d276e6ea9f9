"""How far one result is from another on the same views: pose angles between views, relative depth."""

from __future__ import annotations

import dataclasses

from jaxtyping import Bool, Float
from torch import Tensor

from ...geometry.angles import UNDEFINED_DEG, direction_angle_deg, rotation_angle_deg
from ...geometry.cameras import relative_pairs

# A pair of views closer than this share of the longest baseline has no direction worth comparing.
_SHORT_BASELINE = 0.01


@dataclasses.dataclass(frozen=True)
class Deviation:
    """Differences from a reference, over all pairs of views and all valid pixels; None where undefined.

    Angles in degrees: of relative rotations, and of directions of relative translation (0 to 180) for the
    pairs whose baseline is not negligible. `depth_relative` is the median of |d - d0| / d0 after
    `depth_scale`, the median of d0 / d.
    """

    rotation_deg_median: float | None
    rotation_deg_max: float | None
    translation_deg_median: float | None
    translation_deg_max: float | None
    depth_relative: float | None
    depth_scale: float | None


def deviation(
    cam_from_world: Float[Tensor, "views 3 4"],
    reference_cam_from_world: Float[Tensor, "views 3 4"],
    z_depth: Float[Tensor, "views height width"],
    reference_z_depth: Float[Tensor, "views height width"],
    valid: Bool[Tensor, "views height width"],
) -> Deviation:
    """Compare two results on the same views; computed in float64, free of either's world and scale."""
    found, meant = relative_pairs(cam_from_world), relative_pairs(reference_cam_from_world)
    rotation = rotation_angle_deg(meant[..., :3].transpose(-1, -2) @ found[..., :3])
    translation = direction_angle_deg(found[..., 3], meant[..., 3], signed=True)
    baseline = meant[..., 3].norm(dim=-1)
    longest = baseline.max() if baseline.numel() else baseline.new_zeros(())
    translation = translation[(baseline >= _SHORT_BASELINE * longest) & (translation < UNDEFINED_DEG)]
    valid = valid & _positive(z_depth) & _positive(reference_z_depth)
    depth, reference = z_depth[valid].double(), reference_z_depth[valid].double()
    scale = float((reference / depth).median()) if depth.numel() else None
    relative = None if scale is None else float(((scale * depth - reference).abs() / reference).median())
    return Deviation(*_middle_and_most(rotation), *_middle_and_most(translation), relative, scale)


def _middle_and_most(angles: Float[Tensor, " pairs"]) -> tuple[float | None, float | None]:
    angles = angles[angles.isfinite()]
    return (float(angles.median()), float(angles.max())) if angles.numel() else (None, None)


def _positive(depth: Tensor) -> Tensor:
    return depth.isfinite() & (depth > 0)
