"""What the viewer shows, and where it listens."""

from __future__ import annotations

import dataclasses

from .._option_checks import check_options
from ..errors import UsageError


@dataclasses.dataclass(frozen=True)
class ViewOptions:
    """Address and amounts; nothing here changes the reconstruction."""

    host: str = "127.0.0.1"
    """Address to listen on; 0.0.0.0 lets other machines in."""
    port: int = 8080
    """Port of the page; the next free one if it is taken."""
    max_points: int = 1_000_000
    """Points of all frames sent to the browser; overlaps are thinned first."""
    max_images: int = 150
    """Cameras drawn with their image, evenly spread; all are drawn as wire frames."""
    conf_percentile: float = 50.0
    """Share of least confident pixels hidden at first; the page has a slider."""
    drop_edges: float | None = None
    """Hide pixels where depth jumps by more than this share (0.05 is 5 %); the page has a switch."""

    def __post_init__(self) -> None:
        check_options(self, at_least={"max_points": 1, "max_images": 0}, above={"drop_edges": 0})
        if not 0 <= self.port <= 65535:
            raise UsageError(f"port must be between 0 (any free one) and 65535, not {self.port}")
        if not 0 <= self.conf_percentile < 100:
            raise UsageError(f"conf_percentile must be at least 0 and below 100, not {self.conf_percentile}")
