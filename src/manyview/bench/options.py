"""What a benchmark measures."""

from __future__ import annotations

import dataclasses
from typing import Literal

from .._option_checks import check_options
from ..errors import UsageError

Kernels = Literal["plain", "norms", "triton"]
LinearPrecision = Literal["plain", "fp8"]
Images = Literal["noise", "scene"]
Head = Literal["camera", "depth", "points"]
HeadPrecision = Literal["fp32", "bf16", "fp16"]

_POSITIVE = ("runs", "warmup", "rounds", "quiet", "long_pass", "time_limit", "pass_limit", "single_pass")


@dataclasses.dataclass(frozen=True)
class BenchOptions:
    """A model, and the grid of plans, kernels, linear precisions and numbers of frames it is timed on."""

    model: str = "auto"
    """What reconstruct takes, or sizes with random weights: small-random, da3-base-random, vggt-1b-random."""
    frames: tuple[int, ...] = (2, 4, 8, 16, 32)
    """Numbers of frames."""
    size: tuple[int, int] | None = None
    """WIDTH HEIGHT of the images in pixels; default: 4:3 at the size the weights were made for."""
    plans: tuple[str, ...] = ("dense",)
    """Plans of global attention; measured one after the other."""
    kernels: tuple[Kernels, ...] = ("plain",)
    """Kernels to run every plan on."""
    linear_precision: tuple[LinearPrecision, ...] = ("plain",)
    """Arithmetic of the trunk's linear layers, for every plan and kernels."""
    images: Images = "noise"
    """Content of the images; scene: views of a rendered room, for plans that depend on the content."""
    decode: bool = False
    """Also time reading as many JPEG files of twice the images' size."""
    export: bool = False
    """Also time writing a result of that size as NPZ and PLY."""
    heads: tuple[Head, ...] = ("camera", "depth")
    """Heads to run."""
    precision: str = "auto"
    """Of the trunk: auto, bf16, fp16 or fp32; auto: bf16 where the device multiplies it, else fp16 on CUDA,
    fp32 on CPUs."""
    head_precision: HeadPrecision = "fp32"
    """Of the convolutions of dense heads."""
    channels_last: bool = False
    """Run them in the memory order of tokens also elsewhere than on a CPU, where they always do."""
    device: str = "auto"
    """auto, cpu, cuda, cuda:1 or mps."""
    warmup: int = 1
    """Runs before the measured ones, for each case."""
    runs: int = 5
    """Measured runs for each case; the median counts."""
    long_pass: float = 10.0
    """Seconds of a pass above which one run is enough."""
    quiet: float = 0.15
    """Largest spread of a round of runs, as a share of the median; above, the round is repeated."""
    rounds: int = 3
    """Rounds at most; the one with the least spread counts, and a case without a quiet one is flagged."""
    time_limit: float | None = None
    """Seconds for everything; cases for which no time is left are extrapolated."""
    pass_limit: float | None = None
    """Seconds of a pass; cases that should take longer are extrapolated."""
    single_pass: float | None = None
    """Seconds of a pass above which one is enough, after one on few frames, and marks inside layers count."""
    seed: int = 0
    """Of images and random weights."""
    in_turns: bool = False
    """Run dense and all plans of one number of frames in turns, so that noise meets all of them alike."""

    def __post_init__(self) -> None:
        for name in ("frames", "plans", "heads", "kernels", "linear_precision"):
            object.__setattr__(self, name, tuple(getattr(self, name)))
            if not getattr(self, name) and name != "heads":
                raise UsageError(f"{name.replace('_', '-')}: at least one is needed")
        if min(self.frames) < 1:
            raise UsageError(f"numbers of frames must be at least 1, got {list(self.frames)}")
        if self.size is not None and min(self.size) < 1:
            raise UsageError(f"the image size must be positive, not {self.size[0]}x{self.size[1]}")
        check_options(self, above=dict.fromkeys(_POSITIVE, 0))
