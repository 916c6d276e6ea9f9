"""Points in levels of detail: of a few views at once, of all of them as they are read, on a thread."""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Callable

import numpy as np
from jaxtyping import Float32

from ..files.spread import evenly_spread
from ..reconstruction.result.result import Reconstruction
from .cloud import COARSE_POINTS, COARSE_VIEWS, RankedPoints, level_thresholds, scene_cloud
from .filters import point_width

_AT_ONCE = 2_000_000  # pixels, which take about a second


@dataclasses.dataclass(frozen=True, eq=False)
class Detail:
    """Points of a scene, and what belongs to them."""

    scene: Reconstruction
    thresholds: Float32[np.ndarray, " levels"]
    cloud: RankedPoints
    width: float
    """Of a point, in world units."""
    whole: bool
    """Whether all views have been read."""


class Loading:
    """Reads a scene, at most `max_points` of it; `stop` ends its thread.

    `detail` is what there is of it: at once all of a small scene, and of a larger one `COARSE_POINTS` of at
    most `COARSE_VIEWS` views, evenly spread; the rest is read on a thread.
    """

    def __init__(self, scene: Reconstruction, max_points: int) -> None:
        self._max_points, self._stopped = max_points, threading.Event()
        thresholds = level_thresholds(scene)
        chosen = evenly_spread(len(scene), COARSE_VIEWS)
        whole = len(chosen) == len(scene) and scene.z_depth.size <= _AT_ONCE
        coarse = max_points if whole else min(COARSE_POINTS, max_points)
        cloud = scene_cloud(scene, thresholds, coarse, chosen)
        assert cloud is not None  # nothing stops it
        self.detail = Detail(scene, thresholds, cloud, point_width(scene, cloud.points), whole)

    def go_on(self, progress: Callable[[int, int], None], arrived: Callable[[], None]) -> None:
        """Read the rest, if there is any; `progress` hears (views read, views in all)."""
        if not self.detail.whole:
            threading.Thread(
                target=self._read_rest, args=(progress, arrived), name="manyview points", daemon=True
            ).start()

    def stop(self) -> None:
        """Read no further."""
        self._stopped.set()

    def _read_rest(self, progress: Callable[[int, int], None], arrived: Callable[[], None]) -> None:
        def heard(done: int, total: int) -> bool:
            if done % 20 == 0 and not self._stopped.is_set():
                progress(done, total)
            return not self._stopped.is_set()

        scene, thresholds = self.detail.scene, self.detail.thresholds
        cloud = scene_cloud(scene, thresholds, self._max_points, progress=heard)
        if cloud is not None and not self._stopped.is_set():
            self.detail = Detail(scene, thresholds, cloud, point_width(scene, cloud.points), True)
            arrived()


def with_sky_shown(scene: Reconstruction) -> Reconstruction:
    """`scene` with its sky as ordinary pixels."""
    if scene.sky is None:
        return scene
    masked = None if scene.masked is None else scene.masked & ~scene.sky
    return dataclasses.replace(scene, sky=None, masked=masked)
