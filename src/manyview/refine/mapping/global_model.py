"""From verified matches to a model: global mapping, then what it left out by resection and triangulation.

In the worker only: needs pycolmap. Global mapping is GLOMAP (Pan et al., ECCV 2024, arXiv 2407.20219) as
COLMAP 4 holds it: rotation averaging, then all positions and points at once. It needs no good start and
finds forward motion, where incremental mapping has no first pair.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .features import FEW_VIEWS, MAPPED

_LEAST_SHARE = 0.6
"""Of the views; where global mapping finds less, incremental mapping is tried too."""


def find_model(work: Path, request: dict[str, Any]) -> tuple[Any, tuple[str, ...]]:
    """(the largest model, or None where there is none; notes)."""
    views = len(request["names"])
    best = _largest(_global_mapping(work, request))
    notes: tuple[str, ...] = ()
    if best is None or best.num_reg_images() < _LEAST_SHARE * views:
        other = _largest(_incremental_mapping(work, request, None))
        if other is not None and (best is None or other.num_reg_images() > 1.1 * best.num_reg_images()):
            had = 0 if best is None else best.num_reg_images()
            notes = (f"global mapping found {had} of {views} views, so incremental mapping was taken",)
            best = other
    return best, notes


def extend_model(work: Path, request: dict[str, Any], model: Any) -> Any:
    """The model with all views that can be resected against its points, and their points."""
    if model.num_reg_images() == len(request["names"]):
        return model
    start = _empty(work / "start")
    model.write_binary(start)
    grown = _largest(_incremental_mapping(work, request, start))
    return grown if grown is not None and grown.num_reg_images() > model.num_reg_images() else model


def _global_mapping(work: Path, request: dict[str, Any]) -> Mapping[int, Any]:
    import pycolmap

    options = pycolmap.GlobalPipelineOptions()
    options.min_model_size = 2
    options.num_threads = options.mapper.num_threads = request["mapping_threads"]
    options.random_seed = options.mapper.random_seed = request["seed"]
    mapper = options.mapper
    for part in (mapper.rotation_averaging, mapper.global_positioning, mapper.retriangulation):
        part.random_seed = request["seed"]
    mapper.global_positioning.use_gpu = mapper.bundle_adjustment.ceres.use_gpu = False
    # Positions need some tracks only; retriangulation brings the others back.
    mapper.keep_max_num_tracks = max(4000, 100 * len(request["names"]))
    free = any(camera["focal_sigma"] is not None for camera in request["cameras"])
    mapper.bundle_adjustment.refine_focal_length = mapper.bundle_adjustment.refine_extra_params = free
    if len(request["names"]) <= FEW_VIEWS:
        mapper.track_min_num_views_per_track = mapper.global_positioning.min_num_view_per_track = 2
        mapper.bundle_adjustment.min_track_length = 2
        mapper.retriangulation.ignore_two_view_tracks = False
    return pycolmap.global_mapping(work / MAPPED, work / "images", _empty(work / "models"), options)


def _incremental_mapping(work: Path, request: dict[str, Any], start: Path | None) -> Mapping[int, Any]:
    import pycolmap

    options = pycolmap.IncrementalPipelineOptions()
    options.min_model_size = 2
    options.extract_colors = False
    options.num_threads = 1  # sums of several come in any order
    options.random_seed = options.mapper.random_seed = options.triangulation.random_seed = request["seed"]
    options.mapper.abs_pose_min_num_inliers = 15
    free = any(camera["focal_sigma"] is not None for camera in request["cameras"])
    options.ba_refine_focal_length = options.ba_refine_extra_params = free
    if len(request["names"]) <= FEW_VIEWS:
        options.triangulation.ignore_two_view_tracks = False
        options.mapper.init_min_tri_angle = 2.0
    if start is not None:
        options.multiple_models = False
        options.fix_existing_frames = options.mapper.fix_existing_frames = request["fix_poses"]
    return pycolmap.incremental_mapping(
        work / MAPPED, work / "images", _empty(work / "models"), options, start or ""
    )


def _largest(models: Mapping[int, Any]) -> Any:
    found = [model for model in models.values() if model.num_reg_images() >= 2 and model.num_points3D() > 0]
    return max(found, key=lambda model: (model.num_reg_images(), model.num_points3D()), default=None)


def _empty(folder: Path) -> Path:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    return folder
