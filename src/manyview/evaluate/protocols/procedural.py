"""procedural-v1: the fixed set of held-out procedural scenes that accuracy is reported on.

What a case shows depends on the version, the case, the number of the scene and the image size alone.
Any change of what is drawn is a new version; a test pins figures of every case.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

from ...errors import UsageError
from ...synthetic import SceneBatch, SceneOptions, render_scenes
from ...synthetic.held_out import HELD_OUT_BANK, HELD_OUT_SEED

VERSION = "procedural-v1"
LEVELS = ("easy", "medium", "hard")
SPECIAL_LEVELS = ("forward", "rotation", "repeated")
ORDERS = ("sequence", "set")
VIEWS = (8, 24, 64, 150)
# Beyond the seeds that `evaluate_synthetic` takes for its first thousand seeds.
_FIRST_SEED = HELD_OUT_SEED + (1 << 32)
_SEEDS_PER_CASE = 1 << 20


@dataclass(frozen=True)
class Case:
    """Scenes of one level and number of views, seen along a path ("sequence") or as a loose "set".

    Errors: UsageError for an unknown level or order, fewer than two views, or a special level as a set
    (a drive, a turn and repeated structure are sequences).
    """

    level: str
    views: int
    order: str = "sequence"

    def __post_init__(self) -> None:
        for name, choices in (("level", LEVELS + SPECIAL_LEVELS), ("order", ORDERS)):
            if getattr(self, name) not in choices:
                raise UsageError(
                    f"{VERSION} has no {name} {getattr(self, name)!r}: choose from {', '.join(choices)}"
                )
        if self.views < 2:
            raise UsageError(f"evaluation needs scenes of at least 2 views, not {self.views}")
        if self.level in SPECIAL_LEVELS and self.order != "sequence":
            raise UsageError(f"the level {self.level} is a sequence; leave out the order {self.order}")

    def __str__(self) -> str:
        return f"{self.level}, {self.views} views, {self.order}"

    @property
    def listed(self) -> bool:
        """Whether the case belongs to the benchmark's own list; others are drawn by the same rules."""
        return self.views in ((8,) if self.level in SPECIAL_LEVELS else VIEWS)

    def options(self) -> SceneOptions:
        """The scenes' options, with the texture bank that training never uses."""
        path = "walk" if self.order == "sequence" else "unordered"
        held_out = {"path": path, "texture_bank_seed": HELD_OUT_BANK}
        if self.level in ("forward", "rotation"):
            return SceneOptions.medium(motion=self.level, **held_out)
        if self.level == "repeated":
            return SceneOptions.medium(repeated=1.0, **held_out)
        difficulty = LEVELS.index(self.level) / 2
        return SceneOptions.at(difficulty, **held_out)

    def seed(self, number: int) -> int:
        """Seed of the scene of this number; no two levels or orders share one."""
        place = (LEVELS + SPECIAL_LEVELS).index(self.level) * len(ORDERS) + ORDERS.index(self.order)
        return _FIRST_SEED + place * _SEEDS_PER_CASE + number

    def render(self, number: int, size: tuple[int, int], device: str = "cpu") -> SceneBatch:
        """The scene of this number, alone in its batch, as (height, width) images."""
        return render_scenes([self.seed(number)], self.views, *size, self.options(), device=device)


def listed_cases() -> tuple[Case, ...]:
    """Every case of the benchmark: three levels by views and order, then the special ones at 8 views."""
    cases = [Case(level, views, order) for level in LEVELS for views in VIEWS for order in ORDERS]
    return tuple(cases + [Case(level, 8) for level in SPECIAL_LEVELS])


def chosen_cases(
    levels: tuple[str, ...], views: tuple[int, ...], orders: tuple[str, ...] = ORDERS
) -> tuple[Case, ...]:
    """Cases of these levels; special levels have sequences only. Errors: as `Case`, or none chosen."""
    cases = [
        Case(level, count, order)
        for level in dict.fromkeys(levels)
        for count in dict.fromkeys(views)
        for order in dict.fromkeys(orders)
        if order == "sequence" or level not in SPECIAL_LEVELS
    ]
    if not cases:
        raise UsageError("no case chosen: name a level, a number of views and, for special levels, sequence")
    return tuple(cases)


def describe(case: Case) -> dict[str, object]:
    """The case as JSON-able values, with the options of its scenes."""
    return {**dataclasses.asdict(case), "listed": case.listed, "options": case.options().to_dict()}
