"""Elastic training: each global layer draws its own answer each step, so that one model serves all plans."""

from __future__ import annotations

import random
from collections.abc import Mapping

from ..attention.plan import Plan
from ..errors import UsageError

# Early layers that a plan may cut to their own frame: at most AVGGT's share of the depth.
_MOST_EARLY = 9 / 24


def stage_plan(
    fixed: str, shares: Mapping[str, float], depth: int, seed: int, step: int, early_share: float = 0.0
) -> Plan:
    """Plan of a step: `fixed` for the whole network, unless the stage draws one for each layer."""
    if set(shares) == {"dense"}:
        return Plan.parse(fixed, depth)
    return draw_plan(shares, depth, seed, step, early_share)


def draw_plan(
    shares: Mapping[str, float], depth: int, seed: int, step: int, early_share: float = 0.0
) -> Plan:
    """Plan of a step: every layer draws one of `shares` (plan spec to weight) by itself.

    A spec stands for what it says about the last layer, so that presets which treat early layers apart
    count by their main part. In a share `early_share` of steps the first layers see their own frame
    instead: one of them, two, ... up to AVGGT's 9 of 24, evenly. The draw depends on (seed, step) alone:
    all processes draw the same. Raises UsageError for specs that this depth does not allow.
    """
    check_shares(shares)
    if set(shares) == {"dense"}:
        return Plan.dense(depth)
    draws = random.Random(f"plan:{seed}:{step}")
    specs = draws.choices(list(shares), list(shares.values()), k=depth)
    layers = [Plan.parse(spec, depth).layers[-1] for spec in specs]
    if draws.random() < early_share:
        early = draws.randint(1, max(1, round(_MOST_EARLY * depth)))
        layers[:early] = Plan.frame_only(early).layers
    return Plan(tuple(layers))


def check_shares(shares: Mapping[str, float]) -> None:
    """Refuse an empty menu and shares that are not positive."""
    if not shares or any(share <= 0 for share in shares.values()):
        raise UsageError(f"plans to draw from need positive shares, not {dict(shares)}")
