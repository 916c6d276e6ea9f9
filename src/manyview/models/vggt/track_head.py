"""Track head of VGGT: a DPT feature extractor and an iterative point tracker (VGGT, section 3.3)."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor, nn

from ...errors import UsageError
from ..dense_head import DenseHead
from ..part_configs import DenseHeadConfig
from .config import TrackHeadConfig
from .tracker import Tracker, TrackIterations


class TrackHead(nn.Module):
    """Follows query points of frame 0 through all frames.

    `dim` is the width of a feature tap. `feature_extractor` is run by the caller, like any dense head, on
    its projected taps; its features at 1/`down_ratio` of the image are what `forward` takes.
    """

    def __init__(self, dim: int, config: TrackHeadConfig) -> None:
        super().__init__()
        self.config = config
        extractor = DenseHeadConfig(config.features, config.out_channels)
        self.feature_extractor = DenseHead(dim, extractor, None, down_ratio=config.down_ratio)
        self.tracker = Tracker(config)

    @property
    def smallest_side(self) -> int:
        """Shortest image side in pixels that leaves a pixel on the coarsest correlation level."""
        return self.config.down_ratio * 2 ** (self.config.corr_levels - 1)

    def check(self, height: int, width: int, query_points: Tensor | None) -> Tensor:
        """The query points, if this head can track them on images of height x width; UsageError else."""
        if query_points is None:
            raise UsageError("the track head needs query_points: pixels of the first frame, [B, N, 2]")
        if query_points.ndim != 3 or query_points.shape[-1] != 2 or query_points.shape[1] == 0:
            raise UsageError(f"query_points must have shape [B, N, 2], got {tuple(query_points.shape)}")
        if min(height, width) < self.smallest_side:
            raise UsageError(
                f"the track head needs images of at least {self.smallest_side} pixels on each side, "
                f"got {height}x{width}: use larger images or leave the track head out"
            )
        return query_points

    def forward(
        self,
        features: Float[Tensor, "batch frames features rows columns"],
        query_points: Float[Tensor, "batch queries 2"],
        iterations: int | None = None,
    ) -> TrackIterations:
        """Pixel tracks after each iteration, visibility and confidence, all [batch, frames, queries, ...].

        `query_points` are (x, y) pixels of frame 0, which keeps them; the image plane's pixel convention
        is upstream's: integer coordinates are pixel centres of the feature map, scaled by `stride`.
        """
        steps = self.config.iterations if iterations is None else iterations
        if steps < 1:
            raise UsageError(f"the tracker needs at least one iteration, not {steps}")
        precision = self.tracker.query_ref_token.dtype
        return self.tracker(features.to(precision), query_points.to(precision), steps)
