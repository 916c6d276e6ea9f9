"""Elastic training: each global layer draws its attention method each step; one model serves all plans."""

from __future__ import annotations

import random
from collections.abc import Mapping

from ..attention.plan import Plan
from ..errors import UsageError

# Early layers that a plan may restrict to same-frame attention: at most AVGGT's share of the depth.
_MOST_EARLY = 9 / 24


def draw_plan(
    shares: Mapping[str, float],
    depth: int,
    seed: int,
    step: int,
    early_share: float = 0.0,
    fixed: str = "dense",
) -> Plan:
    """Plan of a step: every layer draws one of `shares` (plan spec to weight) by itself.

    Where "dense" is the only one, the plan is `fixed`.

    A spec stands for its last layer, that is, the main part of presets that treat early layers apart. In a
    share `early_share` of steps the first layers use same-frame attention instead: one of them, two, ... up
    to AVGGT's 9 of 24, evenly. The draw depends on (seed, step) alone, so all processes agree. Raises
    UsageError for specs that this depth does not allow.
    """
    check_shares(shares)
    if set(shares) == {"dense"}:
        return Plan.parse(fixed, depth)
    draws = random.Random(f"plan:{seed}:{step}")
    specs = draws.choices(list(shares), list(shares.values()), k=depth)
    layers = [Plan.parse(spec, depth).layers[-1] for spec in specs]
    if draws.random() < early_share:
        early = draws.randint(1, max(1, round(_MOST_EARLY * depth)))
        layers[:early] = Plan.frame_only(early).layers
    return Plan(tuple(layers))


def check_shares(shares: Mapping[str, float]) -> None:
    """Raise UsageError for no plans or shares that are not positive."""
    if not shares or any(share <= 0 for share in shares.values()):
        raise UsageError(f"plans must be at least one plan with a positive share, not {dict(shares)}")
