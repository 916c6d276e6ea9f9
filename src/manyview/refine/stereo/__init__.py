"""Depth that other views confirm: multi-view stereo from exact cameras, on a CPU or a card."""

from .confirm import confirm_depth
from .options import StereoOptions

__all__ = ["StereoOptions", "confirm_depth"]
