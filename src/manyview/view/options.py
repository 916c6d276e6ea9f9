"""What the viewer shows, and where it listens."""

from __future__ import annotations

import dataclasses

from ..errors import UsageError


@dataclasses.dataclass(frozen=True)
class ViewOptions:
    """Address and amounts; nothing here changes the reconstruction.

    `host`, `port`: where the page is served; the next free port is taken if this one is busy.
    `max_points`: points of all frames together that are sent to the page.
    `max_images`: cameras drawn with their image, evenly spread; all are drawn as wire frames.
    `conf_percentile`: least confident share hidden at first. `drop_edges`: hide pixels whose depth
    differs by more than this share from a neighbour's, the veil between a near and a far surface.
    """

    host: str = "127.0.0.1"
    port: int = 8080
    max_points: int = 1_000_000
    max_images: int = 150
    conf_percentile: float = 50.0
    drop_edges: float | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.port <= 65535:
            raise UsageError(f"port must be between 0 (any free one) and 65535, not {self.port}")
        if self.max_points < 1:
            raise UsageError(f"max_points must be at least 1, not {self.max_points}")
        if self.max_images < 0:
            raise UsageError(f"max_images must be 0 or more, not {self.max_images}")
        if not 0 <= self.conf_percentile < 100:
            raise UsageError(f"conf_percentile must be at least 0 and below 100, not {self.conf_percentile}")
        if self.drop_edges is not None and not self.drop_edges > 0:
            raise UsageError(f"drop_edges must be above 0 (0.05 is 5 %), not {self.drop_edges}")
