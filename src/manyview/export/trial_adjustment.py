"""Tracks that a bundle adjustment can bring together, found by one.

Where cameras are wrong, some of the observations that were measured are wrong too, and an adjustment throws
points behind cameras or focal lengths away. What a trial on a copy cannot bring together is left out.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Bool

from ..errors import ManyViewError
from ..files.writing import check_whole
from ..reconstruction.result.tracks import Tracks
from .colmap_model import build_model

if TYPE_CHECKING:
    from ..reconstruction.result.result import Reconstruction

_ROUNDS = 8
# A view has fewer observations than these only with none: six of pose, one of focal length, and spare ones.
_LEAST_OBSERVATIONS = 20
# More than this is not tried: results with so many are consistent, and it would take minutes.
_MOST_OBSERVATIONS = 60_000
# Largest change of a focal length in a trial, as a factor.
_FOCAL_CHANGE = 3.0


def adjustable_tracks(scene: Reconstruction, tracks: Tracks, max_error_px: float) -> Tracks:
    """The tracks, without those whose error an adjustment leaves above `max_error_px` of the network images.

    Nothing is left where no part of them can be adjusted.
    """
    for _ in range(_ROUNDS):
        tracks = _well_observed(tracks, len(scene))
        if not 0 < len(tracks.pixels) <= _MOST_OBSERVATIONS:
            return tracks
        kept, steady = _trial(scene, tracks, max_error_px)
        if kept.all() and steady.all():
            return tracks
        tracks = tracks.select(kept).observed_by(steady)
    return tracks.select(np.zeros(len(tracks.points), dtype=bool))


def _well_observed(tracks: Tracks, views: int) -> Tracks:
    """Without the observations of views that have few, until none has."""
    while True:
        enough = np.bincount(tracks.view_index, minlength=views) >= _LEAST_OBSERVATIONS
        if enough[tracks.view_index].all():
            return tracks
        tracks = tracks.observed_by(enough)


def _trial(
    scene: Reconstruction, tracks: Tracks, max_error_px: float
) -> tuple[Bool[np.ndarray, " points"], Bool[np.ndarray, " views"]]:
    """Which points stay together in an adjustment, and which views keep a sane focal length."""
    import pycolmap

    model = build_model(scene, tracks, scene.source_image_names)
    before = _focals(model, len(scene))
    with tempfile.TemporaryDirectory(prefix="manyview-trial-") as folder:
        model.write_binary(folder)
        check_whole(Path(folder), Path(folder).iterdir())
        worker = Path(__file__).with_name("trial_worker.py")
        done = subprocess.run([sys.executable, "-P", str(worker), folder], capture_output=True, check=False)
        if done.returncode:
            raise ManyViewError(
                f"COLMAP's bundle adjustment of the points to export ended with code {done.returncode}; "
                "refine the cameras first (manyview refine)"
            )
        model = pycolmap.Reconstruction(folder)
    errors = np.array([model.points3D[point + 1].error for point in range(len(tracks.points))])
    scale = min(min(view.transform.scale_x, view.transform.scale_y) for view in scene.views)
    ratio = _focals(model, len(scene)) / before
    return errors <= max_error_px / scale, (ratio > 1 / _FOCAL_CHANGE) & (ratio < _FOCAL_CHANGE)


def _focals(model: object, views: int) -> np.ndarray:
    return np.array([model.images[view + 1].camera.mean_focal_length() for view in range(views)])  # type: ignore[attr-defined]
