"""What a benchmark measures."""

from __future__ import annotations

import dataclasses

from ..errors import UsageError

KERNELS = ("plain", "triton")
LINEAR_PRECISIONS = ("plain", "fp8")
PICTURES = ("noise", "scene")


@dataclasses.dataclass(frozen=True)
class BenchOptions:
    """A model, and the grid of plans, kernels, linear precisions and numbers of frames it is timed on.

    `model`: what `load` takes, or a size with seeded random weights ("vggt-1b-random", "small-random").
    `size`: (width, height) of the images in pixels (None: 4:3 at the weights' own side). Each case is run
    `warmup` times, then `runs` times for the figures, once if a pass takes longer than `long_pass` seconds.
    `in_turns` runs all plans of one number of frames in turns, so that a machine that slows down slows all
    of them; dense is added. `pictures`: uniform noise, or
    views of a rendered scene, whose content decides what merging methods do.
    `precision` is the trunk's; the convolutions of dense heads run in `head_precision`.

    `decode` and `export` time reading pictures from files and writing the result. A round of repeats whose
    spread is above `quiet` is repeated, up to `rounds` in all, and the quietest counts. `time_limit` bounds
    the whole benchmark and `pass_limit` one pass, in seconds: cases that should take longer are
    extrapolated. Above `single_pass` seconds the first pass counts, with whatever it does for the first time.
    """

    model: str = "manyview-small"
    frames: tuple[int, ...] = (2, 4, 8, 16, 32)
    size: tuple[int, int] | None = None
    plans: tuple[str, ...] = ("dense",)
    kernels: tuple[str, ...] = ("plain",)
    linear_precision: tuple[str, ...] = ("plain",)
    heads: tuple[str, ...] = ("camera", "depth")
    precision: str = "auto"
    head_precision: str = "fp32"
    channels_last: bool | None = None
    device: str = "auto"
    warmup: int = 1
    runs: int = 5
    long_pass: float = 10.0
    quiet: float = 0.15
    rounds: int = 3
    seed: int = 0
    in_turns: bool = False
    pictures: str = "noise"
    decode: bool = False
    export: bool = False
    time_limit: float | None = None
    pass_limit: float | None = None
    single_pass: float | None = None

    def __post_init__(self) -> None:
        for name in ("frames", "plans", "heads", "kernels", "linear_precision"):
            object.__setattr__(self, name, tuple(getattr(self, name)))
        if not self.frames or min(self.frames) < 1:
            raise UsageError(f"numbers of frames must be at least 1, got {list(self.frames)}")
        if not self.plans:
            raise UsageError("name at least one plan, such as dense")
        if self.size is not None and min(self.size) < 1:
            raise UsageError(f"the image size must be positive, not {self.size[0]}x{self.size[1]}")
        if self.runs < 1 or self.warmup < 1 or self.rounds < 1:
            raise UsageError("a benchmark needs at least 1 warm-up run, 1 measured run and 1 round")
        if min(self.quiet, self.long_pass) <= 0:
            raise UsageError("the spread of a quiet round and the length of a long pass must be positive")
        for name in ("time_limit", "pass_limit", "single_pass"):
            value = getattr(self, name)
            if value is not None and value <= 0:
                raise UsageError(
                    f"{name.replace('_', '-')} must be a positive number of seconds, not {value}"
                )
        _only(self.heads, ("camera", "depth", "points"), "cannot time the head")
        _only((self.head_precision,), ("fp32", "bf16", "fp16"), "dense heads have no precision")
        _only(self.kernels, KERNELS, "there are no kernels")
        _only(self.linear_precision, LINEAR_PRECISIONS, "there is no linear precision")
        _only((self.pictures,), PICTURES, "there are no pictures")
        if not self.kernels or not self.linear_precision:
            raise UsageError("name at least one kind of kernels and one linear precision, such as plain")


def _only(names: tuple[str, ...], known: tuple[str, ...], complaint: str) -> None:
    unknown = sorted(set(names) - set(known))
    if unknown:
        raise UsageError(f"{complaint} {unknown[0]!r}: choose from {', '.join(known)}")
