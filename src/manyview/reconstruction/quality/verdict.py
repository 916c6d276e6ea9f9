"""The verdict on a result in words and figures.

How the thresholds were found, and where the verdict fails: docs/quality.md.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float

from ...files.naming import counted, enumerated
from .depth_agreement import FAR, DepthAgreement, depth_agreement
from .image_agreement import FoundPatches, find_patches
from .sampled import SampledViews

if TYPE_CHECKING:
    from ..result.result import Reconstruction

GRADES = ("good", "doubtful", "bad")
GOOD_FROM, DOUBTFUL_FROM = 0.70, 0.64
"""Scores; below the second a result is bad."""
_IMAGE_WEIGHT = 0.75  # of the score; the rest is the agreement of depth
_WORST_DEG = 30.0  # as in AUC@30
_LEAST_PAIRS, _LEAST_PARALLAX_DEG = 2, 0.5
_FULL_FRAME_DIAGONAL = math.hypot(36, 24)  # mm
_EXIF_LIMIT = 1.25
_MEANING = {
    "good": "cameras and depth agree with the images",
    "doubtful": "cameras and depth agree with the images only roughly, look before you use them",
    "bad": "cameras or depth contradict the images, do not use them",
}
# Refined cameras passed tests of their own, and patches are predicted by way of the depth.
_MEANING_REFINED = {
    **_MEANING,
    "doubtful": "depth agrees with the images and the refined cameras only roughly, look before you use it",
    "bad": "depth contradicts the images, do not use it; the refined cameras passed tests of their own",
}


def assess_quality(scene: Reconstruction) -> dict[str, Any]:
    """How far a result can be trusted, from the result alone, in seconds.

    A bounded sample of pixels and of pairs of views is looked at. The score is 0.75 I + 0.25 D. D is the
    share of places seen by two views where their depths agree within 5 % (median over views). For I, patches
    of a view are searched in another around the pixel that depth and cameras predict; with the median angle r
    between found and predicted pixel and the angle p between the rays of the two views, the error of a pair
    of cameras is taken as the larger of r and atan(r / p) / 2, and I is the mean over pairs of
    max(0, 1 - error / 30 degrees), in the way of AUC@30.

    Args:
        scene: The result; its arrays may be mapped from a file.

    Returns:
        JSON types: `grade` ("good", "doubtful", "bad", or None where nothing can be checked), `sentence`,
        `figures` by name (None where one could not be measured) and `weak_views`, the names of views with
        little support.
    """
    if len(scene) < 2:
        return _verdict(
            None, "one view alone: there is no other view to check it with", _focal_figures(scene)
        )
    views = SampledViews(scene)
    neighbours = views.neighbours()
    depth, pairs = depth_agreement(views, neighbours), find_patches(views, neighbours)
    figures = _figures(views, depth, pairs) | _focal_figures(scene)
    grade, reason = _grade(figures)
    refined = scene.refinement is not None and scene.refinement["accepted"]
    reason = reason or (_MEANING_REFINED if refined else _MEANING)[grade]
    weak = _weak_views(views, depth)
    return _verdict(grade, _sentence(reason, figures, weak, len(views)), figures, weak)


def _verdict(
    grade: str | None, sentence: str, figures: dict[str, Any], weak: Sequence[str] = ()
) -> dict[str, Any]:
    rounded = {
        name: float(f"{value:.4g}") if isinstance(value, float) else value for name, value in figures.items()
    }
    return {"grade": grade, "sentence": sentence, "figures": rounded, "weak_views": list(weak)}


def _figures(views: SampledViews, depth: DepthAgreement, pairs: Sequence[FoundPatches]) -> dict[str, Any]:
    scales = np.array([views.scene.views[view].transform.scale_x for view in views.views])
    offsets = [float(np.median(pair.distance)) for pair in pairs]
    degrees = [
        math.degrees(math.atan(offset / views.intrinsics[pair.second, 0, 0]))
        for offset, pair in zip(offsets, pairs)
    ]
    image = None
    if len(pairs) >= _LEAST_PAIRS or (pairs and len(views) == 2):
        errors = [
            max(angle, math.degrees(math.atan2(angle, pair.parallax_deg)) / 2)
            for angle, pair in zip(degrees, pairs)
        ]
        image = float(np.mean([max(0.0, 1 - error / _WORST_DEG) for error in errors]))
    agreement = _median(depth.agreeing)
    score = None if image is None else _IMAGE_WEIGHT * image + (1 - _IMAGE_WEIGHT) * (agreement or 0.0)
    # Where most points come back behind their camera there is no distance to tell.
    reprojection = depth.reprojection / scales if (_median(depth.reprojection) or 0.0) < FAR else np.empty(0)
    original = [offset / scales[pair.second] for offset, pair in zip(offsets, pairs)]
    return {
        "score": score,
        "image_score": image,
        "depth_agreement": agreement,
        "confirmed_share": float(depth.confirmed.mean()),
        "reprojection_px": _median(reprojection),
        "image_offset_px": _median(np.array(original)),
        "image_offset_deg": _median(np.array(degrees)),
        "parallax_deg": _median(depth.parallax_deg),
        "views": len(views),
        "pairs": len(pairs),
        "patches": sum(len(pair.distance) for pair in pairs),
    }


def _focal_figures(scene: Reconstruction) -> dict[str, Any]:
    """Relative spread of focal lengths among images of one size, and their median ratio to EXIF's."""
    found = scene.upright_intrinsics
    focal = np.sqrt(found[:, 0, 0] * found[:, 1, 1])
    sides = [sorted((v.transform.upright_width, v.transform.upright_height)) for v in scene.views]
    groups = np.unique(sides, axis=0, return_inverse=True)[1].reshape(-1)
    logs = np.log(focal)
    middle = np.array([np.median(logs[groups == group]) for group in range(groups.max() + 1)])[groups]
    exif = [
        value * _FULL_FRAME_DIAGONAL / (view.focal_35mm * math.hypot(*size))
        for value, view, size in zip(focal, scene.views, sides)
        if view.focal_35mm is not None
    ]
    spread = float(np.sqrt(np.mean((logs - middle) ** 2))) if len(scene) > 1 else None
    return {"focal_spread": spread, "focal_to_exif": _median(np.array(exif))}


def _median(values: Float[np.ndarray, " n"]) -> float | None:
    finite = values[np.isfinite(values)]
    return float(np.median(finite)) if len(finite) else None


def _grade(figures: dict[str, Any]) -> tuple[str, str]:
    """The grade, and the reason where it is a special one."""
    score, parallax = figures["score"], figures["parallax_deg"]
    if figures["depth_agreement"] is None:
        return "bad", "no view sees what another view shows"
    if score is None:
        few = "the images have too few distinct details in common"
        return ("doubtful" if figures["confirmed_share"] >= 0.5 else "bad"), few
    grade = "good" if score >= GOOD_FROM else "doubtful" if score >= DOUBTFUL_FROM else "bad"
    if parallax is not None and parallax < _LEAST_PARALLAX_DEG:
        still = "the cameras hardly move, which leaves depth unconfirmed"
        return ("bad" if grade == "bad" else "doubtful"), still
    return grade, ""


def _weak_views(views: SampledViews, depth: DepthAgreement) -> list[str]:
    """Views whose depth others confirm on less than 20 % of the pixels, or half the share usual here."""
    limit = max(0.2, float(np.median(depth.confirmed)) / 2)
    return [views.scene.views[view].name for view, own in zip(views.views, depth.confirmed) if own < limit]


def _sentence(reason: str, figures: dict[str, Any], weak: Sequence[str], views: int) -> str:
    parts = [reason]
    if figures["image_offset_deg"] is not None:
        parts.append(
            f"image details lie {figures['image_offset_px']:.0f} px ({figures['image_offset_deg']:.1f}°) "
            f"from where they are predicted, rays of two views differ by {figures['parallax_deg']:.1f}°"
        )
    confirmed = f"a second view confirms {figures['confirmed_share']:.0%} of pixels in depth"
    if figures["reprojection_px"] is not None:
        confirmed += f" (reprojection {figures['reprojection_px']:.1f} px)"
    parts.append(confirmed)
    if figures["focal_spread"] is not None:
        parts.append(f"focal lengths vary by {figures['focal_spread']:.1%}")
    ratio = figures["focal_to_exif"]
    if ratio is not None and max(ratio, 1 / ratio) > _EXIF_LIMIT:
        parts.append(f"they are {ratio:.2f} times what EXIF says")
    if weak:
        parts.append(f"{counted(len(weak), 'view')} of {views} with little support: {enumerated(weak, 3)}")
    return "; ".join(parts)
