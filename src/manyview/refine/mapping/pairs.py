"""Which pairs of views are matched: all of few, a number linear in the views of many."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float64

from ...geometry.unproject_np import project, unproject
from ..options import RefineOptions

if TYPE_CHECKING:
    from ...reconstruction.result.result import Reconstruction

_SAMPLES = 64  # pixels of a view that tell which others see it
_LEAST_OVERLAP = 0.1
_IN_ORDER = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64)
Pair = tuple[int, int]


def first_pairs(scene: Reconstruction, options: RefineOptions) -> list[Pair]:
    """Pairs (first < second) of the first round: at most views x neighbours of them.

    Half of a view's neighbours are near it in order (a video, or photographs in the order they were taken),
    half overlap with it by the network's depth and cameras.
    """
    count = len(scene)
    if count <= options.all_pairs:
        return [(i, j) for i in range(count) for j in range(i + 1, count)]
    half = options.neighbours // 2
    pairs = {(i, i + step) for step in _IN_ORDER[: max(1, half // 2)] for i in range(count - step)}
    overlap = predicted_overlap(scene)
    for view in range(count):
        best = np.argsort(-overlap[view], kind="stable")
        best = best[overlap[view, best] >= _LEAST_OVERLAP]
        # Those that overlap most are often the nearest in order already: spread over what is left.
        new = [int(i) for i in best if (min(view, i), max(view, i)) not in pairs]
        for other in new[:: max(1, len(new) // half)][:half]:
            pairs.add((min(view, other), max(view, other)))
    return sorted(pairs)


def second_pairs(
    inliers: Mapping[Pair, int], tried: set[Pair], views: int, neighbours: int, all_pairs: int
) -> list[Pair]:
    """Pairs not tried yet whose views were both verified against the same others, the likeliest first.

    A pair's likelihood is the sum over such others of the smaller number of inliers.
    """
    if views <= all_pairs:
        return []
    graph: list[dict[int, int]] = [{} for _ in range(views)]
    for (i, j), number in inliers.items():
        graph[i][j] = graph[j][i] = number
    chosen: set[Pair] = set()
    for view in range(views):
        score: dict[int, int] = {}
        for middle, number in graph[view].items():
            for other, more in graph[middle].items():
                pair = (min(view, other), max(view, other))
                if other != view and pair not in tried:
                    score[other] = score.get(other, 0) + min(number, more)
        for other in sorted(score, key=lambda i: (-score[i], i))[: neighbours // 4]:
            chosen.add((min(view, other), max(view, other)))
    return sorted(chosen)


def predicted_overlap(scene: Reconstruction) -> Float64[np.ndarray, "views views"]:
    """Share of some pixels of each view (row) that project into each other view (column)."""
    rng = np.random.default_rng(0)
    result = np.zeros((len(scene), len(scene)))
    size = np.array([scene.width, scene.height])
    for view in range(len(scene)):
        valid = np.flatnonzero(scene.view_valid(view))
        if not len(valid):
            continue
        row, column = np.divmod(valid[rng.integers(len(valid), size=_SAMPLES)], scene.width)
        points = unproject(
            np.stack([column, row], axis=-1) + 0.5,
            scene.z_depth[view][row, column],
            scene.cam_from_world[view],
            scene.intrinsics[view],
            scene.pixel_centres,
        )
        pixels, z = project(points[None], scene.cam_from_world, scene.intrinsics)
        with np.errstate(invalid="ignore"):
            inside = (z > 0) & ((pixels >= 0) & (pixels < size)).all(-1)
        result[view] = inside.mean(1)
        result[view, view] = 0.0
    return np.minimum(result, result.T)
