"""Points on the page: all of a scene by level of confidence, those of the frames so far, or one frame's."""

from __future__ import annotations

from typing import Any

import numpy as np
from jaxtyping import Float32

from .cloud import LEVELS, RankedPoints, level_of, prefixes
from .filters import PointFilter
from .space import PageSpace

MOST_RUNS = 250  # nodes of the frames so far; with more frames a node holds a run of them


class Nodes:
    """Point clouds of the page by number, under one name."""

    def __init__(self, server: Any, space: PageSpace, name: str) -> None:
        self._server, self._space, self._name = server, space, name
        self._nodes: dict[int, Any] = {}
        self._width = 0.0

    def put(self, number: int, cloud: RankedPoints, visible: bool = True) -> None:
        """Show these points in place of the former ones of this number; the page refuses an empty cloud."""
        if not len(cloud):
            self.remove(number)
            return
        self._nodes[number] = self._server.scene.add_point_cloud(
            f"{self._name}/{number:05d}",
            self._space(cloud.points),
            cloud.colours,
            point_size=self._width,
            point_shape="circle",
            point_shading="flat",
            precision="float32",
            visible=visible,
        )

    def remove(self, number: int) -> None:
        """Take the points of a number off the page, if there are any."""
        if number in self._nodes:
            self._nodes.pop(number).remove()

    def clear(self) -> None:
        """Take all points off the page."""
        for number in list(self._nodes):
            self.remove(number)

    def show(self, first: int | None) -> None:
        """Hide the numbers below `first`, and all for None; show the others."""
        for number, node in self._nodes.items():
            visible = first is not None and number >= first
            if node.visible != visible:
                node.visible = visible

    def resize(self, width: float) -> None:
        """Draw all points, and those to come, `width` page units wide."""
        self._width = width
        for node in self._nodes.values():
            if node.point_size != width:
                node.point_size = width

    def shown(self) -> Float32[np.ndarray, "n 3"]:
        """Visible points in page coordinates."""
        parts = [node.points for node in list(self._nodes.values()) if node.visible]
        return np.concatenate([np.zeros((0, 3), np.float32), *parts])

    def count(self) -> int:
        """How many points are visible."""
        return sum(len(node.points) for node in self._nodes.values() if node.visible)


class AllFrames:
    """A cloud in a node for each level of confidence: the slider only shows and hides."""

    def __init__(self, nodes: Nodes) -> None:
        self.nodes = nodes
        self._sent: tuple[RankedPoints, PointFilter] | None = None

    def show(self, cloud: RankedPoints, filtered: PointFilter, percentile: float | None) -> None:
        """The points that stay at `percentile`; all hidden for None, but kept by the browser."""
        first = None if percentile is None else level_of(percentile)
        if percentile is not None and self._sent != (cloud, filtered):
            kept = filtered.keeps(cloud)
            # The most confident ones, which matter most, arrive first.
            for level in range(LEVELS - 1, -1, -1):
                start, stop = np.searchsorted(-cloud.level, [-level, -level + 1])
                part = cloud.chosen(slice(start, stop)).chosen(kept[start:stop])
                self.nodes.put(level, part, visible=level >= level_of(percentile))
            self._sent = (cloud, filtered)
        self.nodes.show(first)


class FramesSoFar:
    """The points of frames 0 to i, in nodes of one frame or a few, sent when they are first wanted."""

    def __init__(self, nodes: Nodes) -> None:
        self.nodes = nodes
        self._sent: tuple[RankedPoints, PointFilter, float] | None = None
        self._views, self._run = 0, 1

    def show(
        self, cloud: RankedPoints, filtered: PointFilter, percentile: float, frame: int, frames: int
    ) -> None:
        """The points of the frames up to `frame`, of `frames` in all."""
        if self._sent != (cloud, filtered, percentile):
            self.clear()
            self._points, self._before = prefixes(filtered.kept(cloud, percentile), frames)
            self._run = -(-frames // MOST_RUNS)
            self._sent = (cloud, filtered, percentile)
        low, high = sorted((self._views, frame + 1))
        for run in range(low // self._run, -(-high // self._run)):  # those whose number of views changes
            start = run * self._run
            stop = min(max(start, frame + 1), start + self._run)
            self.nodes.put(run, self._points.chosen(slice(self._before[start], self._before[stop])))
        self._views = frame + 1

    def clear(self) -> None:
        """Take the points off the page."""
        self.nodes.clear()
        self._sent, self._views = None, 0
