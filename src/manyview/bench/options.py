"""What a benchmark measures."""

from __future__ import annotations

import dataclasses

from ..errors import UsageError


@dataclasses.dataclass(frozen=True)
class BenchOptions:
    """A model, and the grid of plans and numbers of frames it is timed on.

    `model`: what `load` takes, or a size with seeded random weights ("vggt-1b-random",
    "small-random"). `size`: (width, height) of the images in pixels (None: 4:3 at the weights' own
    side). Each case is run `warmup` times, then `runs` times for the figures. `in_turns` runs all plans
    of one number of frames in turns, so that a machine that slows down slows all of them; dense is added.
    """

    model: str = "manyview-small"
    frames: tuple[int, ...] = (2, 4, 8, 16, 32)
    size: tuple[int, int] | None = None
    plans: tuple[str, ...] = ("dense",)
    heads: tuple[str, ...] = ("camera", "depth")
    precision: str = "auto"
    device: str = "auto"
    warmup: int = 1
    runs: int = 5
    seed: int = 0
    in_turns: bool = False

    def __post_init__(self) -> None:
        for name in ("frames", "plans", "heads"):
            object.__setattr__(self, name, tuple(getattr(self, name)))
        if not self.frames or min(self.frames) < 1:
            raise UsageError(f"numbers of frames must be at least 1, got {list(self.frames)}")
        if not self.plans:
            raise UsageError("name at least one plan, such as dense")
        if self.size is not None and min(self.size) < 1:
            raise UsageError(f"the image size must be positive, not {self.size[0]}x{self.size[1]}")
        if self.runs < 1 or self.warmup < 1:
            raise UsageError("a benchmark needs at least 1 warm-up run and 1 measured run")
        unknown = set(self.heads) - {"camera", "depth", "points"}
        if unknown:
            raise UsageError(
                f"cannot time the head {sorted(unknown)[0]!r}: choose from camera, depth, points"
            )
