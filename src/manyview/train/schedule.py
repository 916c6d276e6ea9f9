"""The schedule, as pure functions of progress (0 to 1) and step."""

from __future__ import annotations

import math
import random
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ..synthetic.held_out import HELD_OUT_SEED
from .config import OptimiserOptions, Stage, TrainConfig
from .posed_data import PosedFolders


@dataclass(frozen=True)
class Position:
    """The stage that `progress` falls in and how far through it (0 to 1) the run is."""

    stage: Stage
    index: int
    within: float


def position(stages: tuple[Stage, ...], progress: float) -> Position:
    """Find the stage of a progress; shares need not add up to one."""
    total = sum(stage.share for stage in stages)
    start = 0.0
    for index, stage in enumerate(stages):
        width = stage.share / total
        if progress < start + width or index == len(stages) - 1:
            return Position(stage, index, min(max((progress - start) / width, 0.0), 1.0))
        start += width
    raise AssertionError("unreachable: the last stage holds every progress")


def learning_rate(options: OptimiserOptions, step: int, progress: float) -> float:
    """Linear warm-up over steps, times a cosine over progress from the peak to `final_lr` of it."""
    warm = min((step + 1) / max(options.warmup_steps, 1), 1.0)
    cosine = 0.5 * (1 + math.cos(math.pi * min(max(progress, 0.0), 1.0)))
    return options.lr * warm * (options.final_lr + (1 - options.final_lr) * cosine)


def blend(start: Mapping[str, Any], end: Mapping[str, Any], within: float) -> dict[str, Any]:
    """Interpolate scene options between `start` and `end`; only numbers and lists of numbers change."""

    def mix(a: Any, b: Any) -> Any:
        if isinstance(a, (list, tuple)) and isinstance(b, (list, tuple)) and len(a) == len(b):
            return tuple(mix(x, y) for x, y in zip(a, b))
        if isinstance(a, bool) or isinstance(b, bool) or not isinstance(a, (int, float)):
            return b if within >= 0.5 else a
        value = a + (b - a) * within
        return round(value) if isinstance(a, int) and isinstance(b, int) else value

    mixed = {key: mix(value, end[key]) if key in end else value for key, value in start.items()}
    return {key: tuple(v) if isinstance(v, list) else v for key, v in mixed.items()}


@dataclass(frozen=True)
class StepDraw:
    """What one process renders in one step, or reads from posed images."""

    grid: tuple[int, int]
    views: int
    seeds: tuple[int, ...]
    scenes: dict[str, Any]
    augment: float = 0.0
    camera_effects: float = 0.0
    posed: PosedFolders | None = None
    plan: str | None = None


def draw_step(config: TrainConfig, here: Position, step: int, rank: int) -> StepDraw:
    """Draw a step from (seed, step, rank) alone, so that a resumed run sees the same scenes.

    All processes draw the same grid, number of views and kind of scene, which keeps their steps equally
    long.
    """
    stage = here.stage
    shape = random.Random(f"shape:{config.seed}:{step}")
    grid = shape.choice(stage.grids)
    views = shape.randint(*stage.views)
    content = random.Random(f"scenes:{config.seed}:{step}:{rank}")
    seeds = tuple(content.randrange(HELD_OUT_SEED) for _ in range(max(1, stage.frames_per_step // views)))
    mix = shape.choices(stage.scenes, [mix.share for mix in stage.scenes])[0]
    effects = stage.camera_effects if mix.posed is None else 0.0
    scenes = blend(mix.start, mix.end, here.within)
    return StepDraw(grid, views, seeds, scenes, stage.augment, effects, mix.posed, mix.plan)
