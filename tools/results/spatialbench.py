"""Which models and plans fit SpatialBench's dense scenes on cards of 80 and 140 GB, by preflight.

    python -m tools.results.spatialbench

Nothing runs and no weights are needed: sizes alone, bf16, the fused norms that CUDA takes by itself. All
figures are estimates, seconds by estimated rates of an H100.
"""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Sequence

import torch

from manyview.attention.plan import Plan
from manyview.datasets.spatialbench_frames import SOURCES, WIDTH, frame_size
from manyview.errors import MemoryLimitError
from manyview.models.network import Network
from manyview.models.without_weights import load_or_describe
from manyview.reconstruction.plan.chunked_plan import preflight_chunks
from manyview.reconstruction.plan.machine import Machine
from manyview.reconstruction.plan.preflight import (
    Preflight,
    Request,
    format_duration,
    largest_input,
    preflight,
)
from manyview.reconstruction.run.anchored import why_not_anchored
from tools.command import run_command

SCENES = (("ropedia", 2000), ("kitti_odometry", 1591), ("7scenes", 1000), ("waymo", 199))
"""Frames of the largest dense scene of sources whose counts are known; the first has most tokens of all."""
MODELS = ("vggt-1b", "vggt-omega", "pi3", "pi3x", "da3-base", "da3-large", "da3-giant")
PLANS = ("dense", "avggt:stride=3x3", "spark3r", "anchors")
CARDS_GB = (80, 140)


@dataclasses.dataclass(frozen=True)
class Options:
    """Print the table of docs/spatialbench.md."""

    models: tuple[str, ...] = MODELS
    """Names of weights; only their sizes are needed."""
    plans: tuple[str, ...] = PLANS
    """Plans of global attention."""
    cards_gb: tuple[float, ...] = CARDS_GB
    """Memory of cards, 10^9 bytes."""


def expected(model: Network, spec: str, source: str, frames: int, card_gb: float) -> Preflight | int:
    """What a pass over so many frames of a source would take; the number of frames that fit where they do
    not."""
    config = model.config
    stored = SOURCES[source].height
    width, height = frame_size(stored, (WIDTH, stored or WIDTH), WIDTH, config.patch_size)
    plan = Plan.parse(spec, config.depth)
    heads = ("camera", "depth")
    request = Request(
        config, frames, height, width, plan, heads, torch.bfloat16, kernels="norms",
        head_dtype=torch.bfloat16, channels_last=True,
    )  # fmt: skip
    weights = sum(parameter.nbytes for parameter in model.parameters())
    free = int(card_gb * 1e9) - weights
    machine = Machine(torch.device("cuda"), f"{card_gb:g} GB", free, free)
    try:
        return preflight(request, machine)
    except MemoryLimitError:
        if why_not_anchored(model, plan) is None:
            return preflight_chunks(request, machine)
        return largest_input(request, machine)


def table(options: Options) -> str:
    """Markdown: peak and time of each scene on the largest card, and on which cards all of them fit."""
    cards = sorted(options.cards_gb)
    head = ["model", "plan", *(f"{source}, {frames}" for source, frames in SCENES)]
    head += [f"all fit {card:g} GB" for card in cards]
    lines = [f"| {' | '.join(head)} |", f"|---|---|{'---:|' * (len(head) - 2)}"]
    for name in options.models:
        model = load_or_describe(name, offline=True)
        for spec in options.plans:
            found = {
                card: [expected(model, spec, source, frames, card) for source, frames in SCENES]
                for card in cards
            }
            cells = [*map(peak_and_time, found[cards[-1]]), *(verdict(found[card]) for card in cards)]
            lines.append(f"| {name} | `{spec}` | {' | '.join(cells)} |")
    return "\n".join(lines)


def peak_and_time(found: Preflight | int) -> str:
    """A scene's cell."""
    if isinstance(found, int):
        return "–"
    time = "" if found.seconds is None else f", {format_duration(found.seconds)}"
    return f"{found.peak_bytes / 1e9:.0f} GB{time}"


def verdict(found: Sequence[Preflight | int]) -> str:
    """Whether all scenes fit, and how."""
    for (source, _), one in zip(SCENES, found):
        if isinstance(one, int):
            return f"no: {one} frames of {source}"
    chunks = [one.chunk for one in found if isinstance(one, Preflight) and one.chunk is not None]
    return f"yes, {min(chunks)} at a time" if chunks else "yes"


def run(options: Options) -> int:
    print(table(options))
    return 0


if __name__ == "__main__":
    sys.exit(run_command(Options, run, "tools.results.spatialbench"))
