"""What runs in the process of COLMAP: from originals and pairs to a model, in `result.npz`."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int64

from manyview.refine.mapping.adjust import adjust
from manyview.refine.mapping.cameras import intrinsics_of
from manyview.refine.mapping.features import find_features, hold_out, import_views, match_views, view_of
from manyview.refine.mapping.global_model import extend_model, find_model
from manyview.refine.mapping.held_out import MOST_PER_PAIR, Features
from manyview.refine.mapping.pairs import Pair

RESULT, STAGE = "result.npz", "stage.json"


def run(request: dict[str, Any]) -> dict[str, Any]:
    """Map the views of a request (see `solve`); returns {"timings_s", "notes"} and writes `result.npz`."""
    import pycolmap

    pycolmap.logging.minloglevel = int(pycolmap.logging.ERROR)
    pycolmap.set_random_seed(request["seed"])
    work = Path.cwd()
    timings: dict[str, float] = {}

    def report(stage: str, total: int = 0, table: str | None = None) -> None:
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
    report("mapping")
    with timed("mapping"):
        model, notes = find_model(work, request)
    mapped: set[int] = set()
    if model is not None:
        mapped = {view_of(model.images[number].name) for number in model.reg_image_ids()}
        report("leftovers")
        with timed("leftovers"):
            model = extend_model(work, request, model)
        report("adjustment")
        with timed("adjustment"):
            notes += adjust(model, request)
            model.extract_colors_for_all_images(work / "images")
    arrays = _held_out_arrays(features, withheld, request["seed"])
    arrays |= _model_arrays(model, mapped, request)
    np.savez(work / RESULT, **arrays)
    return {"timings_s": timings, "notes": list(notes)}


def _model_arrays(model: Any, mapped: set[int], request: dict[str, Any]) -> dict[str, np.ndarray]:
    """Cameras by view, points, and observations sorted by point; no place of a view twice."""
    views = len(request["names"])
    cam_from_world = np.full((views, 3, 4), np.nan)
    intrinsics, distortion = np.zeros((views, 3, 3)), np.zeros((views, 4))
    camera_of_view = np.zeros(views, dtype=np.int64)
    status = np.full(views, "unrefined", dtype="U9")
    for number, start in enumerate(request["cameras"], 1):
        there = model is not None and number in model.cameras
        params = np.array(model.cameras[number].params if there else start["params"], dtype=np.float64)
        for view in start["views"]:
            intrinsics[view], distortion[view] = intrinsics_of(start["model"], params)
            camera_of_view[view] = number - 1
    points, colours, observations = [], [], []
    if model is not None:
        view_of_image = {number: view_of(model.images[number].name) for number in model.reg_image_ids()}
        for number, view in view_of_image.items():
            cam_from_world[view] = model.images[number].cam_from_world().matrix()
            status[view] = "mapped" if view in mapped else "resected"
        places = {
            number: np.array([point.xy for point in model.images[number].points2D]).reshape(-1, 2)
            for number in view_of_image
        }
        for point in model.points3D.values():
            seen: dict[int, np.ndarray] = {}
            for element in point.track.elements:
                seen.setdefault(
                    view_of_image[element.image_id], places[element.image_id][element.point2D_idx]
                )
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
        "status": status,
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
