"""A `Solution` compared with what the network predicted, and put into the result if it is better."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Bool, Float32, Float64

from ..files.naming import counted
from ..geometry.unproject_np import invert_rigid, nearest_rigid
from ..reconstruction.result.result import Reconstruction
from .alignment import moved, network_from_solution, with_neighbours
from .depth_scale import (
    DepthFit,
    PointDepths,
    depth_at_points,
    fit_depths,
    residual,
    with_fitted_depth,
    world_scale,
)
from .gate import GateTest, cameras_fit, gate, longer_sides, pixels, sane_views
from .match_error import Cameras
from .solution import Solution


def apply_solution(scene: Reconstruction, solution: Solution) -> Reconstruction:
    """The scene with the cameras of `solution`, points and depth scaled to them; or as it was.

    Args:
        scene: What the network predicted.
        solution: Cameras of its views in any world.

    Returns:
        The scene with `refinement`, which says whether the solution was accepted, and why not. If it was:
        refined cameras, `distortion` and `tracks`; depth of each view scaled; `settings` as they were.
    """
    before = Cameras(
        scene.cam_from_world,
        scene.upright_intrinsics,
        np.zeros((len(scene), 4)) if scene.distortion is None else scene.distortion,
    )
    candidate = _candidate(scene, solution, before)
    failed = next((test for test in candidate.tests if not test.passed), None)
    if failed is not None:
        return _rejected(scene, solution, candidate, failed)
    cameras, fits, refined = candidate.cameras, candidate.fits, candidate.refined
    changed: dict[str, Any] = {
        "cam_from_world": cameras.cam_from_world,
        "intrinsics": np.stack(
            [
                view.transform.network_from_upright @ matrix
                for view, matrix in zip(scene.views, cameras.intrinsics, strict=True)
            ]
        ),
        "distortion": cameras.distortion if cameras.distortion.any() else None,
        "z_depth": np.stack([with_fitted_depth(*pair) for pair in zip(scene.z_depth, fits, strict=True)]),
        "head_points": _moved_head_points(scene, cameras.cam_from_world, fits),
        "tracks": candidate.solution.tracks.observed_by(refined),
        "confirmed": None,
        "pixel_centres": "half",
        "metric": None if solution.in_given_world else scene.metric,
        "refinement": _to_json(scene, candidate, solution, True, _sentence(candidate)),
    }
    return dataclasses.replace(scene, **changed)


def nothing_to_refine(sentence: str) -> dict[str, Any]:
    """`Reconstruction.refinement` where nothing was tried."""
    return {"accepted": False, "sentence": sentence, "cameras_fit": False, "tests": [], "views": []}


@dataclasses.dataclass(frozen=True, eq=False)
class _Candidate:
    """What the result would become. `solution` has its points in the result's world."""

    solution: Solution
    cameras: Cameras
    refined: Bool[np.ndarray, " views"]
    fits: list[DepthFit]
    depths: list[PointDepths]
    tests: tuple[GateTest, ...]


def _candidate(scene: Reconstruction, solution: Solution, before: Cameras) -> _Candidate:
    sides = longer_sides(scene.views)
    fixed = np.array([status == "fixed" for status in solution.status])
    found = Cameras(solution.cam_from_world, solution.intrinsics, solution.distortion)
    refined = sane_views(before, found, solution.tracks, solution.held_out, solution.refined, fixed, sides)
    status = tuple(
        one if kept else "unrefined" for one, kept in zip(solution.status, refined.tolist(), strict=True)
    )
    if not refined.any():
        nothing = _without(solution, status)
        fits = [DepthFit(1.0, 0.0, 1.0, None, 0, own=False)] * len(scene)
        tests = gate(before, before, nothing.tracks, solution.held_out, refined, fixed, sides)
        return _Candidate(nothing, before, refined, fits, [], tests)
    kept = dataclasses.replace(
        solution, status=status, tracks=solution.tracks.observed_by(refined),
        cam_from_world=np.where(refined[:, None, None], solution.cam_from_world, np.nan),
    )  # fmt: skip
    scale = world_scale(depth_at_points(scene, kept.tracks, kept.cam_from_world)) or 1.0
    into = network_from_solution(scene.cam_from_world, kept, scale)
    cameras = into.cameras(kept.cam_from_world)
    kept = dataclasses.replace(kept, tracks=moved(kept.tracks, into), cam_from_world=cameras)
    depths = depth_at_points(scene, kept.tracks, cameras)
    fits = fit_depths(depths, scene.z_depth)
    scales = np.array([fit.ratio for fit in fits])
    everywhere = with_neighbours(scene.cam_from_world, cameras, refined, scales)
    after = _lenses(before, found, solution, refined)
    after = dataclasses.replace(after, cam_from_world=nearest_rigid(everywhere)[0])
    tests = gate(before, after, kept.tracks, solution.held_out, refined, fixed, sides)
    return _Candidate(kept, after, refined, fits, depths, tests)


def _lenses(
    before: Cameras, found: Cameras, solution: Solution, refined: Bool[np.ndarray, " views"]
) -> Cameras:
    """Views that were not refined take the lens of refined ones that share their camera, or keep theirs."""
    cameras = before.with_views(found, refined)
    for view in np.flatnonzero(~refined):
        sharing = np.flatnonzero(refined & (solution.camera_of_view == solution.camera_of_view[view]))
        if len(sharing):
            cameras.intrinsics[view] = found.intrinsics[sharing[0]]
            cameras.distortion[view] = found.distortion[sharing[0]]
    return cameras


def _without(solution: Solution, status: tuple[str, ...]) -> Solution:
    none = np.zeros(len(solution.tracks.points), dtype=bool)
    return dataclasses.replace(solution, status=status, tracks=solution.tracks.select(none))


def _moved_head_points(
    scene: Reconstruction, cam_from_world: Float64[np.ndarray, "views 3 4"], fits: Sequence[DepthFit]
) -> Float32[np.ndarray, "views height width 3"] | None:
    """Points of the point head, moved and scaled with their view's camera."""
    if scene.head_points is None:
        return None
    world_from_cam = invert_rigid(cam_from_world)
    found = np.empty_like(scene.head_points)
    for view, fit in enumerate(fits):
        old = scene.cam_from_world[view]
        in_camera = scene.head_points[view] @ old[:, :3].T + old[:, 3]
        new = world_from_cam[view]
        found[view] = fit.ratio * in_camera @ new[:, :3].T + new[:, 3]
    return found


def _rejected(
    scene: Reconstruction, solution: Solution, candidate: _Candidate, failed: GateTest
) -> Reconstruction:
    earlier = scene.refinement
    if earlier is not None and earlier.get("accepted"):
        sentence = f"{earlier['sentence']}; refined once more in vain: {failed.failure}"
        return dataclasses.replace(scene, refinement={**earlier, "sentence": sentence})
    sentence = f"not refined, the network's cameras stay: {failed.failure}"
    return dataclasses.replace(scene, refinement=_to_json(scene, candidate, solution, False, sentence))


def _sentence(candidate: _Candidate) -> str:
    tests = {test.name: test for test in candidate.tests}
    count, total = int(candidate.refined.sum()), len(candidate.refined)
    parts = [f"{count} of {counted(total, 'view')} refined"]
    error = tests.get("held-out error, pixels")
    if error is not None:
        parts.append(
            f"held-out matches are {pixels(error.after)} from their epipolar lines, "
            f"{pixels(error.before)} before"
        )
    focal = tests.get("focal length, pixels")
    if focal is not None and focal.before and focal.after:
        parts.append(f"focal length {focal.after / focal.before - 1:+.1%}")
    return "; ".join(parts)


def _to_json(
    scene: Reconstruction, candidate: _Candidate, solution: Solution, accepted: bool, sentence: str
) -> dict[str, Any]:
    tracks = candidate.solution.tracks
    points = np.bincount(tracks.view_index, minlength=len(scene))
    status = candidate.solution.status if accepted else ("unrefined",) * len(scene)
    views = []
    for index, (view, fit) in enumerate(zip(scene.views, candidate.fits, strict=True)):
        facts: dict[str, Any] = {
            "name": view.name,
            "status": status[index],
            "camera": int(solution.camera_of_view[index]),
            "points": int(points[index]),
        }
        if accepted:
            facts |= {
                "depth_scale": _rounded(fit.scale),
                "depth_shift": _rounded(fit.shift),
                "depth_residual": _rounded(fit.residual),
                "depth_from": "points" if fit.own else "other views",
            }
        views.append(facts)
    return {
        "accepted": accepted,
        "sentence": sentence,
        "cameras_fit": accepted or cameras_fit(candidate.tests),
        "tests": [test.to_json() for test in candidate.tests],
        "views": views,
        "depth": _depth_figures(candidate) if accepted else None,
        "counts": {
            "views": len(scene),
            "refined": sum(one != "unrefined" for one in status),
            "cameras": len(set(solution.camera_of_view.tolist())),
            "points": len(tracks.points),
            "observations": len(tracks.point_index),
            "held_out_matches": len(solution.held_out.first),
        },
        "in_given_world": solution.in_given_world,
        "timings_s": {name: round(seconds, 3) for name, seconds in solution.timings_s.items()},
        "notes": list(solution.notes),
    }


def _depth_figures(candidate: _Candidate) -> dict[str, Any]:
    """Median over views of the relative difference of depth to points: at one scale, and at each view's."""
    own = [pair for pair in zip(candidate.depths, candidate.fits, strict=True) if pair[1].own]
    usual = float(np.median([fit.ratio for _, fit in own])) if own else 1.0
    return {
        "residual_one_scale": _median([residual(depths, usual) for depths, _ in own]),
        "residual": _median([fit.residual for _, fit in own]),
        "scales": [_rounded(pick(fit.ratio for _, fit in own)) for pick in (min, max)] if own else None,
    }


def _median(values: Sequence[float | None]) -> float | None:
    return _rounded(float(np.median([value for value in values if value is not None]))) if values else None


def _rounded(value: float | None) -> float | None:
    return None if value is None else float(f"{value:.5g}")
