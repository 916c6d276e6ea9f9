"""Which plan suits an input: of those that keep its accuracy, the one that is expected to take least time."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable

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
        also: Other plans that the weights were trained under, such as one for streams.
        early: First layers that the weights allow to attend within frames (None: AVGGT's share).
        coarse_keys: Whether a coarser grid of every frame can stand in for all keys, as AVGGT does. It fails
            on Depth Anything 3 (re-run in arXiv 2607.03612), where whole frames can (arXiv 2605.06270).
        sensitive: Without coarse keys: from which to which share of the depth a layer needs more frames.
    """

    trained_for: str | None = None
    also: tuple[str, ...] = ()
    early: int | None = None
    coarse_keys: bool = True
    sensitive: tuple[float, float] = (0.0, 1.0)


@dataclasses.dataclass(frozen=True)
class ExpectedTime:
    """What is expected of plans on a device, before anything runs.

    Attributes:
        seconds: Seconds of a whole pass with a plan (infinite: it cannot run there, or does not fit).
        said: Of which device, and how well its speed is known.
    """

    seconds: Callable[[Plan], float]
    said: str


def choose_plan(
    frames: int,
    ordered: bool,
    depth: int,
    layout: TokenLayout,
    suited: SuitedPlans | None = None,
    expected: ExpectedTime | None = None,
) -> tuple[Plan, str]:
    """The plan for `frames` views and one sentence that says what was picked and why.

    Number and order of the frames decide which plans keep accuracy; of these and dense attention the one of
    least `expected` time is picked (None: the first of them). Unordered sets overlap less, and AVGGT loses
    more on sparse sets: their stride rises later. The thresholds between strides are ours; the break-even and
    where covering frames are enough are from papers.
    """
    suited = suited or SuitedPlans()
    if suited.trained_for is not None:
        trained_for = suited.trained_for
        return Plan.parse(trained_for, depth), f"auto picked {trained_for}: these weights were trained for it"
    dense, kind = Plan.dense(depth), "frames of a sequence" if ordered else "unordered views"
    if frames < _BREAK_EVEN:
        return dense, (
            f"auto picked dense: with {frames} {kind} attention is a small part of the time, "
            f"and below {_BREAK_EVEN} approximations gain little"
        )
    found = _accurate(frames, ordered, depth, suited)
    if not found:
        return (
            dense,
            f"auto picked dense: for {frames} {kind} nothing is known that keeps this network's accuracy",
        )
    rows, columns = layout.grid
    if min(rows, columns) < 4:
        return dense, f"auto picked dense: a patch grid of {rows}x{columns} is too small to leave keys out"
    plans = [(Plan.parse(spec, depth), why) for spec, why in found]
    (plan, why), time = plans[0], ""
    if expected is not None:
        times = [expected.seconds(plan) for plan, _ in plans]
        least, of_dense = min(times), expected.seconds(dense)
        plan, why = plans[times.index(least)]
        if least >= of_dense and math.isfinite(of_dense):
            less = f"{plan} is expected to take no less time ({expected.said})"
            return dense, f"auto picked dense: for {frames} {kind} {less}"
        if math.isfinite(of_dense):
            time = f"; expected to take {least / of_dense:.0%} of dense's time ({expected.said})"
    share = plan.cost(layout, 1).attention_flops / dense.cost(layout, 1).attention_flops
    return plan, (
        f"auto picked {plan}: for {frames} {kind} {why}, at {share:.0%} of dense attention's FLOPs{time}"
    )


def _accurate(frames: int, ordered: bool, depth: int, suited: SuitedPlans) -> list[tuple[str, str]]:
    """Plans that keep accuracy by what is known, each with the reason; the one of most evidence first."""
    found = []
    if frames > _MANY and (suited.coarse_keys or not ordered):
        found.append(("anchors", "a few covering frames are enough as keys"))
    # Its figures are of large networks; weights that say what they allow are ours, on which merging costs.
    if frames > _FEW and ordered and (suited.early is None or not suited.coarse_keys):
        spec = "spark3r"
        if not suited.coarse_keys:
            first, last = (round(share * depth) for share in suited.sensitive)
            spec += f":sensitive={first}x{max(first, last - 1)}"
        found.append((spec, "whole frames are enough as keys"))
    if suited.coarse_keys and frames <= _MANY:
        early = "" if suited.early is None else f",early={min(suited.early, depth)}"
        spec = f"avggt:stride={_stride(frames, ordered)}{early}"
        found.insert(0, (spec, "a coarser grid of keys is enough"))
    return found


def misfit(plan: Plan, suited: SuitedPlans) -> str | None:
    """A warning about a plan that the weights were not made for, or that is known to fail with them."""
    if suited.trained_for is None:
        coarse = not suited.coarse_keys and any(isinstance(layer.keys, GridKeys) for layer in plan.layers)
        return _COARSE.format(plan) if coarse else None
    known = [Plan.parse(spec, len(plan.layers)) for spec in (suited.trained_for, *suited.also)]
    kinds = {type(layer.keys) for one in known for layer in one.layers} | {SameFrameKeys}
    if all(type(layer.keys) in kinds for layer in plan.layers):
        return None
    return (
        f"these weights were trained for {suited.trained_for}; with {plan} their global attention sees keys "
        "that it never saw in training, and results may be worse"
    )


def _stride(frames: int, ordered: bool) -> str:
    limits = (60, 120, 200) if ordered else (100, 200, 300)
    return next((s for n, s in zip(limits, ("1x2", "2x2", "2x3"), strict=True) if frames < n), "3x3")
