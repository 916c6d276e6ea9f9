"""Known cameras: as the network takes them, and its result in their world and unit (arXiv 2511.10647)."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from ...distributed.ranks import Ranks
from ...errors import UsageError
from ...geometry.align import centre_scale
from ...geometry.cameras import compose_rigid, invert_rigid
from ..predictions import Predictions
from ..priors import Priors

_SMALLEST_UNIT = 0.1


def check_known(known: Mapping[str, Sequence[bool]], names: Sequence[str]) -> None:
    """UsageError unless "poses" and "intrinsics" of all views `names`, and no "depth", are known."""
    if any(known["depth"]):
        raise UsageError(
            f"{names[list(known['depth']).index(True)]}: Depth Anything 3 takes known cameras but no known "
            "depth: leave the depth out, or use Pi3X (--model pi3x)"
        )
    for what in ("poses", "intrinsics"):
        if not all(known[what]):
            raise UsageError(
                f"{names[list(known[what]).index(False)]} has no known {what}: Depth Anything 3 takes poses "
                "and intrinsics of all views; give them, leave such views out, or use Pi3X (--model pi3x)"
            )


@dataclasses.dataclass(frozen=True, eq=False)
class KnownCameras:
    """Cameras of all views, as given. Translations are divided by `unit` [B] before the network sees them.

    With `ranks` they are those of the scene, and everything else is of this rank's frames.
    """

    cam_from_world: Float[Tensor, "batch frames 3 4"]
    intrinsics: Float[Tensor, "batch frames 3 3"]
    unit: Float[Tensor, " batch"]
    ranks: Ranks | None = None

    @classmethod
    def of(cls, priors: Priors, shape: Sequence[int], ranks: Ranks | None = None) -> KnownCameras:
        """Those of `priors`, for images of `shape` [B, S, 3, H, W]. Raises UsageError if some are missing."""
        batch, frames, _, height, width = shape
        priors.check(batch, frames, height, width)
        given = {
            "poses": (priors.world_from_cam, priors.has_pose),
            "intrinsics": (priors.intrinsics, priors.has_intrinsics),
            "depth": (priors.z_depth, priors.has_depth),
        }
        known = {
            what: [value is not None and (mask is None or bool(mask[:, i].all())) for i in range(frames)]
            for what, (value, mask) in given.items()
        }
        first, whole = (0, frames) if ranks is None else (ranks.split.first, ranks.split.frames)
        check_known(known, [f"view {first + i + 1} of {whole}" for i in range(frames)])
        assert priors.world_from_cam is not None and priors.intrinsics is not None
        cam_from_world, intrinsics = invert_rigid(priors.world_from_cam[..., :3, :]), priors.intrinsics
        if ranks is not None:
            cam_from_world, intrinsics = (ranks.gather(x, 1).wait() for x in (cam_from_world, intrinsics))
        return cls(cam_from_world, intrinsics, camera_unit(cam_from_world), ranks)

    def own(self, x: Tensor) -> Tensor:
        """Of what is of all views of the scene [B, S, ...] that of this rank's."""
        return x if self.ranks is None else x[:, self.ranks.split.first : self.ranks.split.stop]

    def normalised(self) -> Float[Tensor, "batch frames 3 4"]:
        """Cameras in the frame of the first one, in units of `unit`."""
        relative = _relative(self.cam_from_world)
        return torch.cat([relative[..., :3], relative[..., 3:] / self.unit[:, None, None, None]], dim=-1)

    def applied(
        self, result: Predictions, predicted: Float[Tensor, "batch frames 3 4"] | None
    ) -> Predictions:
        """`result` with these cameras and depth in their unit.

        `predicted`: cam_from_world as the network has it. The unit is the scale of the similarity from given
        to predicted camera centres; where centres do not tell (one view, or all in one place) it is `unit`.
        """
        result.cameras, result.cameras_given = (
            (self.own(self.cam_from_world), self.own(self.intrinsics)),
            True,
        )
        if predicted is not None and self.ranks is not None:
            predicted = self.ranks.gather(predicted, 1).wait()
        if result.z_depth is not None:
            scale = 1 / self.unit.double()
            if predicted is not None:
                scale = torch.stack(
                    [
                        centre_scale(given, found, float(one))
                        for given, found, one in zip(
                            _centres(self.cam_from_world), _centres(predicted), scale, strict=True
                        )
                    ]
                )
            result.z_depth = result.z_depth / scale.to(result.z_depth)[:, None, None, None]
        return result


def camera_unit(cam_from_world: Float[Tensor, "batch frames 3 4"]) -> Float[Tensor, " batch"]:
    """Lower median of the distances of all centres from the first, its own 0 included; 0.1 at least."""
    distance = _relative(cam_from_world)[..., 3].norm(dim=-1)
    return distance.median(dim=1).values.clamp(min=_SMALLEST_UNIT)


def _relative(cam_from_world: Float[Tensor, "batch frames 3 4"]) -> Float[Tensor, "batch frames 3 4"]:
    """Cameras in the frame of the first, by float64, so that a far world costs no digits."""
    cameras = cam_from_world.double()
    first = invert_rigid(cameras[:, :1]).expand_as(cameras)
    return compose_rigid(cameras, first).to(cam_from_world)


def _centres(cam_from_world: Float[Tensor, "*batch 3 4"]) -> Float[Tensor, "*batch 3"]:
    return invert_rigid(cam_from_world)[..., 3]
