"""Which plan suits an input: by how many frames there are and whether they follow each other."""

from __future__ import annotations

import dataclasses

from .dense import SameFrameKeys
from .layout import TokenLayout
from .methods.avggt import GridKeys
from .plan import Plan

# Below it AVGGT gains at most 1.26x end to end (independent re-run of arXiv 2512.02541).
_BREAK_EVEN = 30
# Whole frames as keys, 25 (arXiv 2605.23892) or about 40 (2605.06270), match dense attention at 500 and more.
_MANY = 300
# Spark3R (2605.06270) reduces nothing up to here.
_FEW = 100
_COARSE = (
    "{} is known to fail with this network, which needs whole frames as keys: spark3r and anchors have them"
)


@dataclasses.dataclass(frozen=True)
class SuitedPlans:
    """What is known of weights, or of all weights of a family, that decides which plans keep their accuracy.

    Attributes:
        trained_for: The plan that the weights need (None: dense attention, which plans then stand in for).
        early: First layers that the weights allow to attend within frames (None: AVGGT's share).
        coarse_keys: Whether a coarser grid of every frame can stand in for all keys, as AVGGT does. It fails
            on Depth Anything 3 (re-run in arXiv 2607.03612), where whole frames can (arXiv 2605.06270).
        sensitive: Without coarse keys: from which to which share of the depth a layer needs more frames.
    """

    trained_for: str | None = None
    early: int | None = None
    coarse_keys: bool = True
    sensitive: tuple[float, float] = (0.0, 1.0)


def choose_plan(
    frames: int, ordered: bool, depth: int, layout: TokenLayout, suited: SuitedPlans | None = None
) -> tuple[Plan, str]:
    """The plan for `frames` views and one sentence that says what was picked and why.

    Unordered sets overlap less, and AVGGT loses more on sparse sets: their stride rises later. The
    thresholds between strides are ours; the break-even and where covering frames are enough are from papers.
    """
    suited = suited or SuitedPlans()
    if suited.trained_for is not None:
        trained_for = suited.trained_for
        return Plan.parse(trained_for, depth), f"auto picked {trained_for}: these weights were trained for it"
    kind = "frames of a sequence" if ordered else "unordered views"
    if frames < _BREAK_EVEN:
        return Plan.dense(depth), (
            f"auto picked dense: with {frames} {kind} attention is a small part of the time, "
            f"and below {_BREAK_EVEN} approximations gain little"
        )
    if not suited.coarse_keys and (frames <= _FEW or (frames <= _MANY and not ordered)):
        return Plan.dense(depth), (
            f"auto picked dense: for {frames} {kind} nothing is known that keeps this network's accuracy"
        )
    if not suited.coarse_keys and ordered:
        first, last = (round(share * depth) for share in suited.sensitive)
        spec, why = f"spark3r:sensitive={first}x{max(first, last - 1)}", "whole frames are enough as keys"
    elif frames > _MANY:
        spec, why = "anchors", "a few covering frames are enough as keys"
    else:
        spec = f"avggt:stride={_stride(frames, ordered)}"
        if suited.early is not None:
            spec += f",early={min(suited.early, depth)}"
        why = "a coarser grid of keys is enough"
    rows, columns = layout.grid
    if min(rows, columns) < 4:
        return Plan.dense(depth), (
            f"auto picked dense: a patch grid of {rows}x{columns} is too small to leave keys out"
        )
    plan = Plan.parse(spec, depth)
    share = plan.cost(layout, 1).attention_flops / Plan.dense(depth).cost(layout, 1).attention_flops
    return plan, f"auto picked {plan}: for {frames} {kind} {why}, at {share:.0%} of dense attention's FLOPs"


def misfit(plan: Plan, suited: SuitedPlans) -> str | None:
    """A warning about a plan that the weights were not made for, or that is known to fail with them."""
    if suited.trained_for is None:
        coarse = not suited.coarse_keys and any(isinstance(layer.keys, GridKeys) for layer in plan.layers)
        return _COARSE.format(plan) if coarse else None
    known = Plan.parse(suited.trained_for, len(plan.layers))
    kinds = {type(layer.keys) for layer in known.layers} | {SameFrameKeys}
    if all(type(layer.keys) in kinds for layer in plan.layers):
        return None
    return (
        f"these weights were trained for {suited.trained_for}; with {plan} their global attention sees keys "
        "that it never saw in training, and results may be worse"
    )


def _stride(frames: int, ordered: bool) -> str:
    limits = (60, 120, 200) if ordered else (100, 200, 300)
    return next((s for n, s in zip(limits, ("1x2", "2x2", "2x3"), strict=True) if frames < n), "3x3")
