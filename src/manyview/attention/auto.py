"""Which plan suits an input: by how many frames there are and whether they follow each other."""

from __future__ import annotations

from .dense import SameFrameKeys
from .layout import TokenLayout
from .plan import Plan

# Below it AVGGT gains at most 1.26x end to end (independent re-run of arXiv 2512.02541).
_BREAK_EVEN = 30
# Whole frames as keys, 25 (arXiv 2605.23892) or about 40 (2605.06270), match dense attention at 500 and more.
_MANY = 300


def choose_plan(
    frames: int,
    ordered: bool,
    depth: int,
    layout: TokenLayout,
    early: int | None = None,
    trained_for: str | None = None,
) -> tuple[Plan, str]:
    """The plan for `frames` views and one sentence that says what was picked and why.

    `early`: first layers that the weights allow to attend within frames (None: AVGGT's share).
    `trained_for`: the plan that the weights need (None: dense attention, which plans then stand in for).

    Unordered sets overlap less, and AVGGT loses more on sparse sets: their stride rises later. The
    thresholds between strides are ours; the break-even and where covering frames are enough are from papers.
    """
    if trained_for is not None:
        return Plan.parse(trained_for, depth), f"auto picked {trained_for}: these weights were trained for it"
    kind = "frames of a sequence" if ordered else "unordered views"
    if frames < _BREAK_EVEN:
        return Plan.dense(depth), (
            f"auto picked dense: with {frames} {kind} attention is a small part of the time, "
            f"and below {_BREAK_EVEN} approximations gain little"
        )
    if frames > _MANY:
        spec, why = "anchors", "a few covering frames are enough as keys"
    else:
        spec = f"avggt:stride={_stride(frames, ordered)}"
        if early is not None:
            spec += f",early={min(early, depth)}"
        why = "a coarser grid of keys is enough"
    rows, columns = layout.grid
    if min(rows, columns) < 4:
        return Plan.dense(depth), (
            f"auto picked dense: a patch grid of {rows}x{columns} is too small to leave keys out"
        )
    plan = Plan.parse(spec, depth)
    share = plan.cost(layout, 1).attention_flops / Plan.dense(depth).cost(layout, 1).attention_flops
    return plan, f"auto picked {plan}: for {frames} {kind} {why}, at {share:.0%} of dense attention's FLOPs"


def misfit(plan: Plan, trained_for: str | None) -> str | None:
    """A warning about a plan that weights trained for another one were not made for."""
    if trained_for is None:
        return None
    known = Plan.parse(trained_for, len(plan.layers))
    kinds = {type(layer.keys) for layer in known.layers} | {SameFrameKeys}
    if all(type(layer.keys) in kinds for layer in plan.layers):
        return None
    return (
        f"these weights were trained for {trained_for}; with {plan} their global attention sees keys that it "
        "never saw in training, and results may be worse"
    )


def _stride(frames: int, ordered: bool) -> str:
    limits = (60, 120, 200) if ordered else (100, 200, 300)
    return next((s for n, s in zip(limits, ("1x2", "2x2", "2x3"), strict=True) if frames < n), "3x3")
