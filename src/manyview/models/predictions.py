"""Model outputs for a set of images."""

from __future__ import annotations

import dataclasses

from jaxtyping import Bool, Float
from torch import Tensor

from ..attention.layout import TokenLayout
from ..errors import UsageError
from ..geometry.cameras import pose_encoding_to_cameras


@dataclasses.dataclass
class Predictions:
    """Outputs of the heads that ran, for `frames` images of `height` x `width`; the rest is None.

    The world is the first frame's camera; lengths are up to scale, or metres where there is a
    `metric_scale`. Depth is z-depth, confidences are at least 1. Cameras are read off the pose encoding, or
    given by networks without one. `sky` is True where a pixel shows the sky. `rays`
    are direction and origin in the network's own world. With `cameras_given` the cameras are the known ones
    that were given, in whose world and unit the rest is.
    """

    height: int
    width: int
    layout: TokenLayout
    pose_encoding_list: list[Float[Tensor, "batch frames 9"]] | None = None
    z_depth: Float[Tensor, "batch frames height width"] | None = None
    depth_conf: Float[Tensor, "batch frames height width"] | None = None
    world_points: Float[Tensor, "batch frames height width 3"] | None = None
    world_points_conf: Float[Tensor, "batch frames height width"] | None = None
    track_list: list[Float[Tensor, "batch frames queries 2"]] | None = None
    track_visibility: Float[Tensor, "batch frames queries"] | None = None
    track_confidence: Float[Tensor, "batch frames queries"] | None = None
    local_points: Float[Tensor, "batch frames height width 3"] | None = None
    world_from_cam: Float[Tensor, "batch frames 4 4"] | None = None
    confidence_logits: Float[Tensor, "batch frames height width 1"] | None = None
    metric_scale: Float[Tensor, " batch"] | None = None
    text_alignment_token: Float[Tensor, "batch dim"] | None = None
    text_alignment_embedding: Float[Tensor, "batch dim"] | None = None
    sky: Bool[Tensor, "batch frames height width"] | None = None
    rays: Float[Tensor, "batch frames rows columns 6"] | None = None
    rays_conf: Float[Tensor, "batch frames rows columns"] | None = None
    cameras: tuple[Float[Tensor, "batch frames 3 4"], Float[Tensor, "batch frames 3 3"]] | None = None
    cameras_given: bool = False

    @property
    def pose_encoding(self) -> Float[Tensor, "batch frames 9"]:
        if self.pose_encoding_list is None:
            raise UsageError("cameras were not predicted: run the camera head")
        return self.pose_encoding_list[-1]

    @property
    def tracks(self) -> Float[Tensor, "batch frames queries 2"] | None:
        return None if self.track_list is None else self.track_list[-1]

    @property
    def cam_from_world(self) -> Float[Tensor, "batch frames 3 4"]:
        return self._cameras()[0]

    @property
    def intrinsics(self) -> Float[Tensor, "batch frames 3 3"]:
        return self._cameras()[1]

    def _cameras(self) -> tuple[Tensor, Tensor]:
        if self.cameras is not None:
            return self.cameras
        return pose_encoding_to_cameras(self.pose_encoding, self.height, self.width)
