"""What runs in the process of COLMAP: from originals and pairs to a model, in `result.npz`.

A script, so its imports are absolute.
"""

from __future__ import annotations

import dataclasses
import json
import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int64

from manyview.refine.mapping.adjust import adjust
from manyview.refine.mapping.cameras import intrinsics_of
from manyview.refine.mapping.features import (
    Report,
    find_features,
    hold_out,
    import_views,
    match_views,
    view_of,
)
from manyview.refine.mapping.global_model import extend_model, find_model
from manyview.refine.mapping.held_out import MOST_PER_PAIR, Features
from manyview.refine.mapping.known_poses import fixed_model, known_images, pull_to_known
from manyview.refine.mapping.pairs import Pair
from manyview.refine.mapping.resect import resect_by_depth

RESULT, STAGE = "result.npz", "stage.json"
_LEAST_POINTS = 10  # observed by a view, below which it counts as unrefined


def run(request: dict[str, Any]) -> dict[str, Any]:
    """Map the views of a request (see `solve`); returns {"timings_s", "notes"} and writes `result.npz`."""
    import pycolmap

    pycolmap.logging.minloglevel = int(pycolmap.logging.ERROR)
    pycolmap.set_random_seed(request["seed"])
    work = Path.cwd()
    timings: dict[str, float] = {}

    def report(stage: str, total: int, table: str | None) -> None:
        temporary = work / f"{STAGE}.new"
        temporary.write_text(json.dumps({"stage": stage, "total": total, "table": table}), encoding="utf-8")
        os.replace(temporary, work / STAGE)

    @contextmanager
    def timed(stage: str) -> Iterator[None]:
        began = time.perf_counter()
        yield
        timings[stage] = time.perf_counter() - began

    with timed("features"):
        import_views(work, request)
        find_features(work, request, report)
    with timed("matches"):
        match_views(work, request, report)
        features, withheld = hold_out(work, request)
    try:
        found = _map(work, request, report, timed)
    except Exception as error:  # of COLMAP, for views that no camera can be found for
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        found = _Found(notes=(f"mapping failed: {reason}",))
    arrays: dict[str, Any] = _held_out_arrays(features, withheld, request["seed"])
    arrays |= _model_arrays(found.model, found.status, request)
    np.savez(work / RESULT, **arrays)
    return {"timings_s": timings, "notes": list(found.notes), "in_given_world": found.in_given_world}


@dataclasses.dataclass(frozen=True, eq=False)
class _Found:
    """A model, or None, and the status of views that are in it."""

    model: Any = None
    status: dict[int, str] = dataclasses.field(default_factory=dict)
    notes: tuple[str, ...] = ()
    in_given_world: bool = False


def _map(work: Path, request: dict[str, Any], report: Report, timed: Callable[[str], Any]) -> _Found:
    """Global mapping, leftovers, adjustment."""
    in_given_world = False
    report("mapping", 0, None)
    with timed("mapping"):
        model, notes = find_model(work, request)
        if request["fix_poses"]:
            model, in_given_world = fixed_model(work, request, model), True
    if model is None:
        return _Found(notes=notes)
    mapped = set(model.reg_image_ids())
    report("leftovers", 0, None)
    with timed("leftovers"):
        model = resect_by_depth(work, request, extend_model(work, request, model))
    fixed = frozenset(known_images(model, request)) if request["fix_poses"] else frozenset()
    report("adjustment", 0, None)
    with timed("adjustment"):
        adjust(model, request, fixed)
        if request["known_poses"] and not request["fix_poses"]:
            in_given_world, more = pull_to_known(model, request)
            notes += more
        model.extract_colors_for_all_images(work / "images")
    status = {}
    for number in model.reg_image_ids():
        image = model.images[number]
        if number in fixed:
            status[view_of(image.name)] = "fixed"
        elif image.num_points3D >= _LEAST_POINTS:
            status[view_of(image.name)] = "mapped" if number in mapped else "resected"
    return _Found(model, status, notes, in_given_world)


def _model_arrays(model: Any, status: Mapping[int, str], request: dict[str, Any]) -> dict[str, np.ndarray]:
    """Cameras by view, points, and observations sorted by point; no place of a view twice."""
    views = len(request["names"])
    cam_from_world = np.full((views, 3, 4), np.nan)
    intrinsics, distortion = np.zeros((views, 3, 3)), np.zeros((views, 4))
    camera_of_view = np.zeros(views, dtype=np.int64)
    for number, start in enumerate(request["cameras"], 1):
        there = model is not None and number in model.cameras
        params = np.array(model.cameras[number].params if there else start["params"], dtype=np.float64)
        for view in start["views"]:
            intrinsics[view], distortion[view] = intrinsics_of(start["model"], params)
            camera_of_view[view] = number - 1
    points: list[np.ndarray] = []
    colours: list[np.ndarray] = []
    observations: list[tuple[float, ...]] = []
    if model is not None:
        registered = {number: view_of(model.images[number].name) for number in model.reg_image_ids()}
        refined = {number: view for number, view in registered.items() if view in status}
        for number, view in refined.items():
            cam_from_world[view] = model.images[number].cam_from_world().matrix()
        places = {
            number: np.array([point.xy for point in model.images[number].points2D]).reshape(-1, 2)
            for number in refined
        }
        for point in model.points3D.values():
            seen: dict[int, np.ndarray] = {}
            for element in point.track.elements:
                if element.image_id not in refined:
                    continue
                seen.setdefault(refined[element.image_id], places[element.image_id][element.point2D_idx])
            if len(seen) > 1:
                observations += [(len(points), view, *xy) for view, xy in sorted(seen.items())]
                points.append(point.xyz)
                colours.append(point.color)
    rows = np.array(observations, dtype=np.float64).reshape(-1, 4)
    return {
        "cam_from_world": cam_from_world,
        "intrinsics": intrinsics,
        "distortion": distortion,
        "camera_of_view": camera_of_view,
        "status": np.array([status.get(view, "unrefined") for view in range(views)]),
        "points": np.array(points, dtype=np.float64).reshape(-1, 3),
        "colours": np.array(colours, dtype=np.uint8).reshape(-1, 3),
        "point_index": rows[:, 0].astype(np.int64),
        "view_index": rows[:, 1].astype(np.int64),
        "pixels": rows[:, 2:],
    }


def _held_out_arrays(
    features: Features, withheld: Mapping[Pair, Int64[np.ndarray, "_ 2"]], seed: int
) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    chosen = {pair: rng.permutation(nodes)[:MOST_PER_PAIR] for pair, nodes in sorted(withheld.items())}
    nodes = np.concatenate([np.empty((0, 2), np.int64), *chosen.values()])
    views = np.repeat(
        np.array(list(chosen), np.int64).reshape(-1, 2), [len(n) for n in chosen.values()], axis=0
    )
    return {
        "held_first": views[:, 0],
        "held_second": views[:, 1],
        "held_first_pixels": features.pixels[nodes[:, 0]],
        "held_second_pixels": features.pixels[nodes[:, 1]],
    }
