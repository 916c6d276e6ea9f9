"""`manyview bench`: time by stage and peak memory against the number of frames."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import tyro

from ..bench.options import BenchOptions
from ..errors import UsageError, require_plot
from .console import Bars, say, say_written

if TYPE_CHECKING:
    from ..bench.figures import BenchReport
    from ..bench.methods import Implementation


@dataclasses.dataclass(frozen=True)
class Bench(BenchOptions):
    """Measure time by stage and peak memory against the number of frames.

    Warm, synchronised, median of several runs; loading is left out.
    """

    in_turns: tyro.conf.Suppress[bool] = False
    accel: tuple[str, ...] | None = None
    """Plans to compare with dense, in turns on the same frames, instead of --plans; all: every method."""
    twin: bool = False
    """Not in the package any more: `python -m tools.bench --twin` in a checkout."""
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
        from ..bench.files import NAMES, write_report
        from ..bench.measure import run_bench
        from ..bench.table import table
        from ..files.writing import check_results_folder

        values = {field.name: getattr(self, field.name) for field in dataclasses.fields(BenchOptions)}
        if self.accel is not None:
            values |= {"plans": self.accel, "in_turns": True}
        options = BenchOptions(**values)
        if self.out is not None:
            if self.plot:
                require_plot()
            check_results_folder(self.out, NAMES, self.overwrite)
        written = 0

        def watch(report: BenchReport, done: int, total: int) -> None:
            nonlocal written
            bars("bench", done, total)
            known = len(report.measurements) + len(report.refusals)
            if self.out is not None and known > written:
                write_report(report, self.out, with_plot=False)  # survives an interruption
                written = known

        with Bars() as bars:
            report = run_bench(options, watch, implementations)
        say(comparison(report) if options.in_turns else table(report))
        extra = remarks(report)
        if extra:
            say("\n" + extra)
        if self.out is not None:
            say_written(write_report(report, self.out, self.plot, extra))
        failed = any(one.failed for one in report.refusals)
        return 0 if report.measurements and not failed else 1
