"""From a scene and its original images to refined cameras and points, before anything is compared."""

from __future__ import annotations

import json
import sqlite3
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ...errors import ManyViewError, optional_module
from ...reconstruction.result.tracks import Tracks
from ..options import RefineOptions
from ..solution import HeldOutMatches, Solution
from .cameras import KnownViewCameras, start_cameras
from .originals import digest, write_originals, write_view_masks
from .pairs import first_pairs
from .process import run_worker

if TYPE_CHECKING:
    from ...reconstruction.result.result import Reconstruction

_WORKER = Path(__file__).with_name("worker.py")
_RESULT, _STAGE, _DATABASE = "result.npz", "stage.json", "database.db"
_ONE_THREAD = 100  # views up to which mapping runs on one thread, and gives the same digits again
Progress = Callable[[str, int, int], None]


def solve(
    scene: Reconstruction,
    options: RefineOptions,
    work: Path,
    known: KnownViewCameras | None = None,
    progress: Progress | None = None,
    threads: int = -1,
) -> Solution:
    """Structure from motion on the original images of a scene.

    Args:
        scene: Its views say where the originals are; its cameras and depth choose pairs and focal lengths.
        options: How.
        work: A folder for originals, features and matches. A call with the folder of an earlier one that was
            ended goes on from what that found.
        known: What the user knows of the cameras.
        progress: Called with (stage, done, total); stages: originals, features, matches, mapping.
        threads: For features and matches, which they do not change (-1: all cores).

    Returns:
        Cameras, points and held-out matches; views that could not be refined are "unrefined", and where
        nothing could be, `notes` say why.

    Raises:
        MissingExtraError: pycolmap is not installed.
        InputError: The original of a view is gone or is no longer what was reconstructed.
        UsageError: The views cannot share a camera as `options` say.
        ManyViewError: COLMAP crashed.
    """
    optional_module("pycolmap", "Refinement", "colmap")
    report = progress or (lambda stage, done, total: None)
    work.mkdir(parents=True, exist_ok=True)
    cameras = start_cameras(scene, options, known)
    began = time.perf_counter()
    names = write_originals(scene, work / "images", lambda done, total: report("originals", done, total))
    masks = write_view_masks(scene, work / "masks")
    pairs = first_pairs(scene, options)
    request = {
        "digest": digest(scene),
        "names": names,
        "masks": masks,
        "max_image_size": options.max_image_size,
        "max_features": options.max_features,
        "cameras": [camera.to_json() for camera in cameras],
        "pairs": pairs,
        "neighbours": options.neighbours,
        "all_pairs": options.all_pairs,
        "seed": options.seed,
        "threads": threads,
        "mapping_threads": 1 if len(scene) <= _ONE_THREAD else threads,
    }
    timings = {"originals": time.perf_counter() - began}
    (work / _STAGE).unlink(missing_ok=True)
    found = run_worker(_WORKER, request, work, poll=lambda: _report(work, report))
    if "error" in found:
        raise ManyViewError(
            f"refinement ended: {found['error']}; what it printed is in {work / 'colmap.log'}"
        )
    with np.load(work / _RESULT) as arrays:
        return _solution(scene, arrays, found, timings)


def _solution(
    scene: Reconstruction, arrays: Any, found: dict[str, Any], timings: dict[str, float]
) -> Solution:
    view = arrays["view_index"]
    scale = np.array([[v.transform.scale_x, v.transform.scale_y] for v in scene.views])
    offset = np.array([[v.transform.offset_x, v.transform.offset_y] for v in scene.views])
    tracks = Tracks(
        arrays["points"],
        arrays["colours"],
        arrays["point_index"],
        view,
        arrays["pixels"] * scale[view] + offset[view],
    )
    held_out = HeldOutMatches(
        arrays["held_first"],
        arrays["held_second"],
        arrays["held_first_pixels"],
        arrays["held_second_pixels"],
    )
    status = tuple(arrays["status"].tolist())
    notes = list(found["notes"])
    if set(status) == {"unrefined"}:
        notes.append("structure from motion found no two views that belong together")
    return Solution(
        arrays["cam_from_world"],
        arrays["intrinsics"],
        arrays["distortion"],
        arrays["camera_of_view"],
        tracks,
        status,
        held_out,
        timings_s={**timings, **found["timings_s"]},
        notes=tuple(notes),
    )


def _report(work: Path, report: Progress) -> None:
    """Tell how far the worker is, by the rows in its database."""
    try:
        stage = json.loads((work / _STAGE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return
    done = 0
    if stage["table"] is not None:
        try:
            with sqlite3.connect(f"file:{work / _DATABASE}?mode=ro", uri=True, timeout=1) as database:
                done = database.execute(f"SELECT count(*) FROM {stage['table']}").fetchone()[0]
        except sqlite3.Error:
            return
    total = max(stage["total"], 1)
    report(stage["stage"], min(done, total), total)
