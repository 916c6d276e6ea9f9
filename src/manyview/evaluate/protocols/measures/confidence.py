"""Whether confidence ranks the depth errors of a scene."""

from __future__ import annotations

import dataclasses
from typing import ClassVar

import torch

from ...metrics.confidence import ConfidenceRankings, confidence_rankings
from ...metrics.depth import depth_errors
from ..scene_pair import Figures, Needs, ScenePair


@dataclasses.dataclass(frozen=True)
class ConfidenceRanking:
    """Areas under sparsification curves of relative and of absolute depth errors after one median scale:
    `confidence_KIND_area`, `_random`, `_inverse_depth` and `_oracle` (see `Ranking`), None without depth."""

    needs: ClassVar[Needs] = "depth"

    def figures(self, pair: ScenePair, workers: int = -1) -> Figures:
        rankings = rankings_of(pair)
        areas = dataclasses.asdict(rankings or ConfidenceRankings())
        return {
            f"confidence_{kind}_{name}": None if rankings is None else area
            for kind, ranking in areas.items()
            for name, area in ranking.items()
        }


def rankings_of(pair: ScenePair) -> ConfidenceRankings | None:
    """None where the truth has no depth."""
    if pair.true_depth is None:
        return None
    found, truth = torch.from_numpy(pair.found_depth), torch.from_numpy(pair.true_depth)
    valid = truth.isfinite()
    errors = depth_errors(found, truth, valid)
    if errors is None:
        return None
    confidence = torch.from_numpy(pair.confidence)[valid]
    return confidence_rankings(found[valid] * errors.scale, truth[valid], confidence)
