"""Errors on rendered scenes, whose ground truth is exact, and their averages over the scenes of a table.

Poses follow VGGT's protocol, pooled over all pairs of all scenes. The benchmark (`benchmark_figures`) judges
pairs without a baseline by their rotation alone and averages everything else over scenes; the quick table
(`quick_figures`) pools the pixels of all scenes to rank confidence.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from ...geometry.unproject import world_points
from ..metrics.alignment import align_cameras, point_distances, trajectory_error
from ..metrics.confidence import ConfidenceRankings, sparsification
from ..metrics.depth import depth_errors
from ..metrics.pose import auc, baselines, median_deg, pair_errors
from .measures import Figures, FocalLength
from .measures.confidence import rankings_of
from .scene_pair import ScenePair

_NO_BASELINE = 1e-4
"""Pairs of cameras nearer than this, in units of the median true depth, have no direction between them."""
RETAINED = ("auc_3", "auc_5", "auc_15", "auc_30")
BENCHMARK_FIGURES = (
    *(*RETAINED, "auc_integral_3", "rotation_median_deg", "translation_median_deg", "focal_error"),
    *("ate", "abs_rel", "accuracy", "completeness", "confidence_area", "confidence_oracle"),
    *("seconds", "attention_flops", "linear_flops", "confidence_random", "confidence_inverse_depth"),
    *(f"confidence_absolute_{name}" for name in ("area", "oracle", "random", "inverse_depth")),
)
"""The figures of a row of the benchmark, in the order of its files."""


@dataclass(frozen=True, eq=False)
class RenderedErrors:
    """Errors of one scene: angles in degrees of all pairs, figures of the scene, and of its valid pixels the
    relative error, the absolute error in units of the median true depth, and the confidence (None
    without)."""

    rotation_deg: Float[Tensor, " pairs"]
    direction_deg: Float[Tensor, " pairs"]
    has_baseline: Bool[Tensor, " pairs"]
    figures: Figures
    pixels: Float[Tensor, "3 pixels"] | None = None


def quick_errors(pair: ScenePair) -> RenderedErrors:
    """Angles, `abs_rel` and `delta_125` after one median scale (None without a valid pixel), and pixels."""
    found, true, valid = _depths(pair)
    errors, pixels = depth_errors(found, true, valid), None
    if errors is not None and pair.confidence.size:
        absolute = (found[valid] * errors.scale - true[valid]).abs()
        confidence = torch.from_numpy(pair.confidence)[valid]
        pixels = torch.stack([absolute / true[valid], absolute / true[valid].median(), confidence])
    figures: Figures = {
        **FocalLength().figures(pair),
        "abs_rel": None if errors is None else errors.abs_rel,
        "delta_125": None if errors is None else errors.delta_125,
    }
    return RenderedErrors(*_angles(pair, 1.0), figures, pixels)


def benchmark_errors(pair: ScenePair) -> RenderedErrors:
    """Angles, `abs_rel`, areas of confidence, and in units of the median true depth `ate`, `accuracy` and
    `completeness`. A scene without a valid pixel has depth error 0, points at 1, and a confidence of 1."""
    cameras, true_cameras = torch.from_numpy(pair.found_cameras), torch.from_numpy(pair.true_cameras)
    found, true, valid = _depths(pair)
    unit = float(true[valid].median()) if bool(valid.any()) else 1.0
    errors = depth_errors(found, true, valid)
    rankings = rankings_of(pair) or ConfidenceRankings()
    similarity = align_cameras(cameras, true_cameras, 1.0 if errors is None else errors.scale, unit)
    accuracy = completeness = 1.0
    if similarity is not None and errors is not None:
        assert pair.found_intrinsics is not None and pair.true_points is not None
        points = world_points(found, cameras, torch.from_numpy(pair.found_intrinsics))[valid]
        true_points = torch.from_numpy(pair.true_points)[valid]
        accuracy, completeness = point_distances(similarity(points), true_points, unit)
    figures: Figures = {
        **FocalLength().figures(pair),
        "ate": trajectory_error(similarity, cameras, true_cameras, unit),
        "abs_rel": 0.0 if errors is None else errors.abs_rel,
        "accuracy": accuracy,
        "completeness": completeness,
    }
    for prefix, one in (("confidence", rankings.relative), ("confidence_absolute", rankings.absolute)):
        figures |= {f"{prefix}_{name}": area for name, area in vars(one).items()}
    return RenderedErrors(*_angles(pair, unit), figures)


def _depths(pair: ScenePair) -> tuple[Tensor, Tensor, Tensor]:
    assert pair.true_depth is not None
    true = torch.from_numpy(pair.true_depth)
    return torch.from_numpy(pair.found_depth), true, true.isfinite()


def _angles(pair: ScenePair, unit: float) -> tuple[Tensor, Tensor, Tensor]:
    truth = torch.from_numpy(pair.true_cameras)
    errors = pair_errors(torch.from_numpy(pair.found_cameras), truth)
    return errors.rotation_deg, errors.translation_deg, baselines(truth) > _NO_BASELINE * unit


def benchmark_figures(
    scenes: Sequence[RenderedErrors],
    seconds: Sequence[float],
    attention_flops: float,
    linear_flops: float,
) -> dict[str, Any]:
    """AUC in percent (`auc_T` VGGT's histogram, `auc_integral_T` exact) and medians in degrees over the pairs
    of all scenes, `seconds` the median, else means.

    `translation_median_deg` is None where no pair has a baseline (pure rotation). The areas `confidence_*`
    lie under sparsification curves (see `Ranking`) of relative depth errors, `confidence_absolute_*` of
    absolute ones, which is what VGGT's confidence is trained on.
    """
    rotation, direction, based = _pooled(scenes)
    worst = torch.maximum(rotation, torch.where(based, direction, 0.0))
    figures: dict[str, Any] = _means(scenes) | {
        **{f"auc_{t}": auc(worst, t) for t in (3, 5, 15, 30)},
        "auc_integral_3": auc(worst, 3, "exact"),
        "rotation_median_deg": median_deg(rotation, 180.0),
        "translation_median_deg": median_deg(direction[based], 90.0),
        "seconds": statistics.median(seconds),
        "attention_flops": attention_flops,
        "linear_flops": linear_flops,
    }
    return {name: figures.get(name) for name in BENCHMARK_FIGURES}


def quick_figures(scenes: Sequence[RenderedErrors]) -> Figures:
    """AUC in percent and medians in degrees over the pairs of all scenes, depth errors averaged over scenes.

    `confidence_excess` is the area between the sparsification curves of the confidence and of the oracle
    (0 perfect) in relative depth errors, `confidence_absolute_excess` in absolute ones in units of a scene's
    median true depth; None where there is no confidence.
    """
    rotation, direction, _ = _pooled(scenes)
    worst, means = torch.maximum(rotation, direction), _means(scenes)
    pixels = [scene.pixels for scene in scenes if scene.pixels is not None]
    excess: list[float | None] = [None, None]
    if pixels:
        relative, absolute, confidence = torch.cat(pixels, 1)
        excess = [sparsification(errors, confidence).excess for errors in (relative, absolute)]
    return {
        **{f"auc_{t}": auc(worst, t) for t in (5, 15, 30)},
        "auc_integral_5": auc(worst, 5, "exact"),
        "focal_error": means.get("focal_error"),
        "rotation_median_deg": median_deg(rotation, 180.0),
        "translation_median_deg": median_deg(direction, 90.0),
        "abs_rel": means.get("abs_rel", 0.0),
        "delta_125": means.get("delta_125", 0.0),
        "confidence_excess": excess[0],
        "confidence_absolute_excess": excess[1],
    }


def retention(figures: dict[str, Any], dense: dict[str, Any] | None) -> Figures:
    """Each AUC as a share of dense's (1 keeps all); None without dense or where that scores 0."""
    return {
        name: figures[name] / dense[name] if dense is not None and dense[name] > 0 else None
        for name in RETAINED
    }


def _pooled(scenes: Sequence[RenderedErrors]) -> tuple[Tensor, Tensor, Tensor]:
    return (
        torch.cat([scene.rotation_deg for scene in scenes]),
        torch.cat([scene.direction_deg for scene in scenes]),
        torch.cat([scene.has_baseline for scene in scenes]),
    )


def _means(scenes: Sequence[RenderedErrors]) -> Figures:
    """Over the scenes that have a figure; a figure that none has is left out."""
    values = {
        name: [value for scene in scenes if (value := scene.figures[name]) is not None]
        for name in scenes[0].figures
    }
    return {name: float(torch.tensor(own, dtype=torch.float64).mean()) for name, own in values.items() if own}
