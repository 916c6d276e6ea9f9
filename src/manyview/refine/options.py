"""How a result is refined."""

from __future__ import annotations

import dataclasses
from typing import Literal

from .._option_checks import check_options

CAMERA_MODELS = ("SIMPLE_PINHOLE", "PINHOLE", "SIMPLE_RADIAL", "RADIAL", "OPENCV")


@dataclasses.dataclass(frozen=True)
class RefineOptions:
    """How cameras are refined; pixels are those of the original images, turned upright."""

    camera: Literal["auto", "shared", "per-size", "per-view"] = "auto"
    """Which views share a camera: auto, those of one size and one EXIF focal length; shared, all (of one
    size); per-size, those of one size; per-view, none."""
    camera_model: Literal["SIMPLE_PINHOLE", "PINHOLE", "SIMPLE_RADIAL", "RADIAL", "OPENCV"] = "SIMPLE_RADIAL"
    """COLMAP's name of the camera model."""
    known_poses: Literal["prior", "fixed"] = "prior"
    """Known poses pull (prior), or are not moved at all (fixed)."""
    max_image_size: int = 1600
    """Features are found at this many pixels of the longer side at most."""
    max_features: int = 4096
    """At most this many features a view."""
    all_pairs: int = 50
    """Up to so many views every pair is matched."""
    neighbours: int = 20
    """With more views, each is matched with so many others that are expected to overlap with it."""
    seed: int = 0
    """Of everything that is drawn at random."""

    def __post_init__(self) -> None:
        least = {"max_image_size": 64, "max_features": 100, "all_pairs": 2, "neighbours": 2, "seed": 0}
        check_options(self, at_least=least)
