"""Where the figures go: `bench.json`, `bench.txt` and `bench.png` in one folder."""

from __future__ import annotations

import json
from pathlib import Path

from ..errors import OutputError
from ..files.writing import atomic_file, created_folder, output_errors
from .comparison import report_text
from .figures import BenchReport
from .plot import plot

NAMES = ("bench.json", "bench.txt", "bench.png")
_ENOUGH_BYTES = 2_000_000


def check_folder(folder: Path, overwrite: bool) -> None:
    """Raise OutputError if earlier figures are there and may not be replaced; ask before long work."""
    if folder.exists() and not folder.is_dir():
        raise OutputError(f"{folder}: is a file, a folder was expected; choose another output folder")
    there = [name for name in NAMES if (folder / name).exists()]
    if there and not overwrite:
        raise OutputError(
            f"{folder}: {there[0]} is already there; choose another folder or replace it with --overwrite"
        )


def write_report(report: BenchReport, folder: Path, with_plot: bool = True, remarks: str = "") -> list[Path]:
    """Write the figures measured so far, each file whole or not at all; `remarks` end bench.txt."""
    with output_errors(folder, _ENOUGH_BYTES), created_folder(folder):
        paths = [folder / name for name in NAMES]
        with atomic_file(paths[0]) as part:
            part.write_text(json.dumps(report.to_json(), indent=1, allow_nan=False) + "\n")
        with atomic_file(paths[1]) as part:
            part.write_text("\n\n".join(filter(None, (report_text(report), remarks))) + "\n")
        if not with_plot:
            return paths[:2]
        with atomic_file(paths[2]) as part:
            plot(report, part)
        return paths
