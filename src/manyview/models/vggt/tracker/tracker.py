"""Iterative point tracker: start every track at its query, then correct positions and features in steps."""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ...layers import Mlp
from ..config import TrackHeadConfig
from .correlation import local_correlation, pyramid, sample_bilinear
from .embeddings import flow_embedding, position_table
from .transformer import UpdateTransformer


class TrackIterations(NamedTuple):
    """What the tracker returns: pixel positions after every iteration, and the last logits squashed."""

    coords: list[Float[Tensor, "b s n 2"]]
    visibility: Float[Tensor, "b s n"]
    confidence: Float[Tensor, "b s n"]


class Tracker(nn.Module):
    """Refines tracks of points of frame 0 through all frames; parameter names of the public checkpoint.

    A token holds, for one track in one frame: the embedded displacement from frame 0, the displacement
    over `max_scale` twice, the embedded local correlation, and the track's feature; a position table read
    at the query and one of two reference tokens (frame 0, other frames) are added.
    """

    def __init__(self, config: TrackHeadConfig) -> None:
        super().__init__()
        features = config.features
        if features % 4:
            raise ValueError(f"the tracker needs a feature width divisible by 4, got {features}")
        self.config = config
        token, window = 3 * features + 4, (2 * config.corr_radius + 1) ** 2
        self.query_ref_token = nn.Parameter(torch.randn(1, 2, token))
        self.corr_mlp = Mlp(config.corr_levels * window, config.hidden_size, features)
        self.updateformer = UpdateTransformer(token, features + 2, config)
        self.fmap_norm = nn.LayerNorm(features)
        self.ffeat_norm = nn.GroupNorm(1, features)
        self.ffeat_updater = nn.Sequential(nn.Linear(features, features), nn.GELU())
        self.vis_predictor = nn.Sequential(nn.Linear(features, 1))
        self.conf_predictor = nn.Sequential(nn.Linear(features, 1))

    def forward(
        self,
        feature_maps: Float[Tensor, "b s c h w"],
        query_points: Float[Tensor, "b n 2"],
        iterations: int,
    ) -> TrackIterations:
        """Track `query_points`, (x, y) in pixels of frame 0, which keeps them exactly."""
        maps = self.fmap_norm(feature_maps.movedim(2, -1)).movedim(-1, 2)
        batch, frames, _, height, width = maps.shape
        queries = query_points.to(maps.dtype) / self.config.stride  # feature pixels
        coords = queries[:, None].expand(-1, frames, -1, -1)
        start = sample_bilinear(maps[:, 0], queries, padding="border")
        track_features = start[:, None].expand(-1, frames, -1, -1)
        table = position_table(3 * self.config.features + 4, height, width, maps.device).to(maps.dtype)
        at_query = sample_bilinear(table.expand(batch, -1, -1, -1), queries, padding="border")
        constant = at_query[:, None] + self._reference_tokens(frames)[:, :, None]

        levels = [
            level.unflatten(0, (batch, frames))
            for level in pyramid(maps.flatten(0, 1), self.config.corr_levels)
        ]
        positions = []
        for _ in range(iterations):
            coords = coords.detach()
            tokens = torch.cat(
                (
                    self._displacement(coords - coords[:, :1]),
                    self._correlation(levels, track_features, coords),
                    track_features,
                ),
                dim=-1,
            )
            change = self.updateformer((tokens + constant).transpose(1, 2)).transpose(1, 2)
            track_features = track_features + self._feature_update(change[..., 2:])
            moved = coords + change[..., :2]
            coords = torch.cat((queries[:, None], moved[:, 1:]), dim=1)
            positions.append(coords * self.config.stride)
        visibility = self.vis_predictor(track_features).squeeze(-1).sigmoid()
        confidence = self.conf_predictor(track_features).squeeze(-1).sigmoid()
        return TrackIterations(positions, visibility, confidence)

    def _reference_tokens(self, frames: int) -> Float[Tensor, "1 s c"]:
        first, others = self.query_ref_token[:, :1], self.query_ref_token[:, 1:]
        return torch.cat((first, others.expand(-1, frames - 1, -1)), dim=1)

    def _displacement(self, flow: Tensor) -> Tensor:
        relative = flow / self.config.max_scale
        return torch.cat((flow_embedding(flow, self.config.features // 2), relative, relative), dim=-1)

    def _correlation(self, levels: list[Tensor], targets: Tensor, coords: Tensor) -> Tensor:
        """Frame by frame, since the windows of all frames at once would outgrow the feature maps."""
        per_frame = [
            self.corr_mlp(
                local_correlation(
                    [level[:, frame] for level in levels],
                    targets[:, frame],
                    coords[:, frame],
                    self.config.corr_radius,
                )
            )
            for frame in range(coords.shape[1])
        ]
        return torch.stack(per_frame, dim=1)

    def _feature_update(self, change: Tensor) -> Tensor:
        normed = self.ffeat_norm(change.flatten(0, -2)).unflatten(0, change.shape[:-1])
        return self.ffeat_updater(normed)
