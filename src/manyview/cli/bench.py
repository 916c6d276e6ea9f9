"""`manyview bench`: time by stage and peak memory against the number of frames."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from ..bench.options import BenchOptions
from ..errors import UsageError, require_plot
from .console import Bars, say

if TYPE_CHECKING:
    from ..bench.figures import BenchReport
    from ..bench.methods import Implementation


@dataclasses.dataclass(frozen=True)
class Bench:
    """Measure time by stage and peak memory against the number of frames.

    Warm, synchronised, median of several runs; loading is left out.
    """

    model: str = BenchOptions.model
    """What reconstruct takes, or a size with random weights: vggt-1b-random, small-random."""
    frames: tuple[int, ...] = BenchOptions.frames
    """Numbers of frames."""
    size: tuple[int, int] | None = BenchOptions.size
    """WIDTH HEIGHT of the images; default: 4:3 at the size the weights were made for."""
    plans: tuple[str, ...] = BenchOptions.plans
    """Plans of global attention; measured one after the other."""
    accel: tuple[str, ...] | None = None
    """Plans to compare with dense, in turns on the same frames, instead of --plans; all: every method."""
    kernels: tuple[Literal["plain", "triton"], ...] = ("plain",)
    """Kernels to run every plan on."""
    linear_precision: tuple[Literal["plain", "fp8"], ...] = ("plain",)
    """Arithmetic of the trunk's linear layers, for every plan and kernels."""
    twin: bool = False
    """Not in the package any more: `python -m tools.bench --twin` in a checkout."""
    pictures: Literal["noise", "scene"] = "noise"
    """What the images show; scene: views of a rendered room, for plans that look at the content."""
    decode: bool = False
    """Also time reading as many JPEG photos of twice the images' size."""
    export: bool = False
    """Also time writing a result of that size as NPZ and PLY."""
    heads: tuple[Literal["camera", "depth", "points"], ...] = ("camera", "depth")
    """Heads to run."""
    precision: Literal["auto", "bf16", "fp16", "fp32"] = "auto"
    """Of the trunk; auto: bf16 where the device multiplies it, else fp16 on CUDA, fp32 on CPUs."""
    head_precision: Literal["fp32", "bf16", "fp16"] = "fp32"
    """Of the convolutions of dense heads."""
    channels_last: bool = False
    """Run them in the memory order of tokens also elsewhere than on a CPU, where they always do."""
    device: str = BenchOptions.device
    """auto, cpu, cuda, cuda:1 or mps."""
    warmup: int = BenchOptions.warmup
    """Runs before the measured ones, for each case."""
    runs: int = BenchOptions.runs
    """Measured runs for each case; the median counts."""
    long_pass: float = BenchOptions.long_pass
    """Seconds of a pass above which one run is enough."""
    quiet: float = BenchOptions.quiet
    """Largest spread of a round of runs, as a share of the median; above, the round is repeated."""
    rounds: int = BenchOptions.rounds
    """Rounds at most; a case without a quiet one is flagged."""
    time_limit: float | None = None
    """Seconds for everything; cases for which no time is left are extrapolated."""
    pass_limit: float | None = None
    """Seconds of a pass; cases that should take longer are extrapolated."""
    single_pass: float | None = None
    """Seconds of a pass above which the first, cold one counts and no other is run."""
    seed: int = BenchOptions.seed
    """Of images and random weights."""
    out: Path | None = None
    """Folder for bench.json, bench.txt and bench.png; default: only the table, on the screen."""
    overwrite: bool = False
    """Replace earlier figures in --out."""
    plot: bool = True
    """Draw bench.png."""

    def run(self) -> int:
        if self.twin:
            raise UsageError(
                "--twin: the reference implementation is not part of the package; "
                "run `python -m tools.bench --twin` in a checkout"
            )
        return self.measure()

    def measure(
        self,
        implementations: Sequence[Implementation] = (),
        remarks: Callable[[BenchReport], str] = lambda report: "",
    ) -> int:
        """Run, show and write the figures; with other implementations, and with remarks at the end."""
        from ..bench.comparison import comparison
        from ..bench.files import check_folder, write_report
        from ..bench.measure import run_bench
        from ..bench.table import table

        names = [field.name for field in dataclasses.fields(BenchOptions)]
        values = {name: getattr(self, name) for name in names if name != "in_turns"}
        values["channels_last"] = self.channels_last or None
        if self.accel is not None:
            values |= {"plans": self.accel, "in_turns": True}
        options = BenchOptions(**values)
        if self.out is not None:
            check_folder(self.out, self.overwrite)
            if self.plot:
                require_plot()
        written = 0

        def watch(report: BenchReport, done: int, total: int) -> None:
            nonlocal written
            bars("bench", done, total)
            if self.out is not None and len(report.measurements) > written:
                write_report(report, self.out, with_plot=False)  # survives an interruption
                written = len(report.measurements)

        with Bars() as bars:
            report = run_bench(options, watch, implementations)
        say(comparison(report) if options.in_turns else table(report))
        extra = remarks(report)
        if extra:
            say("\n" + extra)
        if self.out is not None:
            files = write_report(report, self.out, self.plot, extra)
            say("written: " + ", ".join(str(path) for path in files))
        return 0 if report.measurements else 1
