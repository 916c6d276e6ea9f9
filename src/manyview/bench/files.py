"""Where the figures go: `bench.json`, `bench.txt` and `bench.png` in one folder."""

from __future__ import annotations

from pathlib import Path

from ..files.writing import atomic_file, output_errors, write_files
from .comparison import report_text
from .figures import BenchReport
from .plot import plot

NAMES = ("bench.json", "bench.txt", "bench.png")
_ENOUGH_BYTES = 2_000_000


def write_report(report: BenchReport, folder: Path, with_plot: bool = True, remarks: str = "") -> list[Path]:
    """Write the figures measured so far, each file whole or not at all; `remarks` end bench.txt."""
    with output_errors(folder, _ENOUGH_BYTES):
        text = "\n\n".join(filter(None, (report_text(report), remarks))) + "\n"
        paths = write_files(folder, dict(zip(NAMES, (report.to_json(), text))))
        if with_plot:
            paths.append(folder / NAMES[2])
            with atomic_file(paths[-1]) as part:
                plot(report, part)
        return paths
