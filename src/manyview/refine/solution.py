"""What structure from motion found, before it is compared with what the network predicted."""

from __future__ import annotations

import dataclasses

import numpy as np
from jaxtyping import Bool, Float64, Int64

from ..reconstruction.result.tracks import Tracks

STATUSES = ("mapped", "resected", "fixed", "unrefined")
"""Of a view: by global mapping; by resection against points and depth of others; its known pose, not moved;
no refined camera."""


@dataclasses.dataclass(frozen=True, eq=False)
class HeldOutMatches:
    """Matches of features that no camera was fitted to; `first` and `second` are views.

    Pixels are those of the upright original images, centres at +0.5.
    """

    first: Int64[np.ndarray, " n"]
    second: Int64[np.ndarray, " n"]
    first_pixels: Float64[np.ndarray, "n 2"]
    second_pixels: Float64[np.ndarray, "n 2"]


@dataclasses.dataclass(frozen=True, eq=False)
class Solution:
    """Cameras and points of structure from motion, in a world of their own.

    Attributes:
        cam_from_world: [R | t], NaN where `status` is "unrefined".
        intrinsics: In pixels of the upright original images; those the refinement started from where nothing
            was refined.
        distortion: (k1, k2, p1, p2) of OpenCV's model; zeros for a pinhole.
        camera_of_view: Views with the same number share one camera.
        tracks: Points and observations; pixels in the *network* images (as `Tracks` says), of features.
        status: One of `STATUSES` a view.
        held_out: What a gate may compare.
        in_given_world: The world is that of known poses, and so is the unit of length.
        timings_s: Seconds by stage.
        notes: What the user should know.
    """

    cam_from_world: Float64[np.ndarray, "views 3 4"]
    intrinsics: Float64[np.ndarray, "views 3 3"]
    distortion: Float64[np.ndarray, "views 4"]
    camera_of_view: Int64[np.ndarray, " views"]
    tracks: Tracks
    status: tuple[str, ...]
    held_out: HeldOutMatches
    in_given_world: bool = False
    timings_s: dict[str, float] = dataclasses.field(default_factory=dict)
    notes: tuple[str, ...] = ()

    @property
    def refined(self) -> Bool[np.ndarray, " views"]:
        """True for views with a refined (or fixed) camera."""
        return np.array([status != "unrefined" for status in self.status])
