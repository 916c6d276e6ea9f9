"""Progress of a forward pass, reported to a recorder."""

from __future__ import annotations

from typing import Any


def mark(recorder: Any, stage: str) -> None:
    """Report that a part of `stage` has just been queued; recorders without `mark` get nothing.

    Stages are "encoder", "frame layers", "global layers", "camera head", "depth head", "points head"
    and "track head"; layers report once each.
    """
    report = getattr(recorder, "mark", None)
    if report is not None:
        report(stage)


def stage_counts(depth: int, heads: tuple[str, ...]) -> dict[str, int]:
    """How often each stage reports in a pass with `depth` pairs of layers and these heads."""
    layers = {"encoder": 1, "frame layers": depth, "global layers": depth}
    return layers | {f"{head} head": 1 for head in heads}
