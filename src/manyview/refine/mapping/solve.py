"""From a scene and its original images to refined cameras and points, before anything is compared."""

from __future__ import annotations

import json
import sqlite3
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Bool

from ...errors import ManyViewError, optional_module
from ...reconstruction.result.tracks import Tracks
from ..options import RefineOptions
from ..solution import HeldOutMatches, Solution
from .cameras import KnownViewCameras, start_cameras
from .originals import digest, write_originals, write_view_masks
from .pairs import first_pairs
from .process import run_worker
from .resect import DEPTH

if TYPE_CHECKING:
    from ...reconstruction.result.result import Reconstruction

_WORKER = Path(__file__).with_name("worker.py")
_RESULT, _STAGE, _DATABASE = "result.npz", "stage.json", "database.db"
_DEPTH_SIDE = 128
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
    _write_depth(scene, work / DEPTH)
    pairs = first_pairs(scene, options)
    poses = None if known is None or not _known(known).any() else known.cam_from_world
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
        "known_poses": None if poses is None else poses.tolist(),
        "fix_poses": poses is not None and options.known_poses == "fixed",
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
        in_given_world=found["in_given_world"],
        timings_s={**timings, **found["timings_s"]},
        notes=tuple(notes),
    )


def _known(known: KnownViewCameras) -> Bool[np.ndarray, " views"]:
    return np.isfinite(known.cam_from_world).all((1, 2))


def _write_depth(scene: Reconstruction, path: Path) -> None:
    """The network's depth, coarsely, for views that matches with points alone do not find."""
    step = max(1, -(-max(scene.height, scene.width) // _DEPTH_SIDE))
    z_depth = [np.where(scene.view_valid(i), scene.z_depth[i], np.nan) for i in range(len(scene))]
    coarse = np.stack([z[step // 2 :: step, step // 2 :: step] for z in z_depth]).astype(np.float32)
    transforms = [view.transform for view in scene.views]
    scale = np.array([[each.scale_x, each.scale_y] for each in transforms]) / step
    offset = np.array([[each.offset_x, each.offset_y] for each in transforms]) / step
    np.savez(path, z_depth=coarse, scale=scale, offset=offset)


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
