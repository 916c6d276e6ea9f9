"""Many small scenes, the model loaded once or for each: `python -m tools.results.batch OUT`.

`manyview batch` reconstructs all of them; `manyview reconstruct`, a process for each, the first few.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tyro

from manyview.files.writing import write_files
from tools.command import run_command
from tools.results.memory import write_photos


@dataclass(frozen=True)
class BatchTable:
    """Scenes a second on this machine."""

    out: tyro.conf.Positional[Path]
    """Folder for batch.md and batch.json."""
    scenes: int = 200
    views: int = 4
    image_size: int = 224
    jobs: tuple[int, ...] = (1, 2)
    """Numbers of processes of `manyview batch`, a row each."""
    alone: int = 10
    """Scenes that are reconstructed by a command each."""
    threads: int = 2
    model: str = "manyview-small"


def write_table(options: BatchTable) -> int:
    """Run every row and write the table."""
    from manyview.reconstruction.plan.environment import commit, cpu_name

    rows: list[tuple[str, int, float]] = []
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        for number in range(options.scenes):
            scene = folder / "scenes" / f"scene-{number:04}"
            scene.mkdir(parents=True)
            write_photos(scene, options.views)
        alone = sorted((folder / "scenes").iterdir())[: options.alone]
        seconds = sum(
            _run(options, "reconstruct", str(scene), str(folder / "alone" / scene.name)) for scene in alone
        )
        rows.append(("`manyview reconstruct`, a process for each", len(alone), seconds))
        for jobs in options.jobs:
            out = str(folder / f"batch-{jobs}")
            seconds = _run(options, "batch", str(folder / "scenes"), out, "--jobs", str(jobs))
            rows.append((f"`manyview batch --jobs {jobs}`", options.scenes, seconds))
    figures = {
        "command": "python -m tools.results.batch",
        "cpu": cpu_name(),
        "commit": commit(),
        "views": options.views,
        "image_size": options.image_size,
        "threads": options.threads,
        "rows": [{"how": how, "scenes": count, "seconds": seconds} for how, count, seconds in rows],
    }
    write_files(options.out, {"batch.json": figures, "batch.md": page(figures)})
    return 0


def page(figures: dict[str, Any]) -> str:
    """Markdown; the last column is against the first row."""
    rows = [(row["how"], row["scenes"], row["seconds"]) for row in figures["rows"]]
    lines = [
        "# Many small scenes",
        "",
        f"`{figures['command']} docs/results/batch`: scenes of {figures['views']} views at "
        f"{figures['image_size']} pixels, {figures['threads']} threads of {figures['cpu']}; the model is "
        "loaded by every process of the first row, and once by each process of a batch.",
        "",
    ]
    lines += ["| how | scenes | seconds | scenes a second | as fast as the first |", "|---|---|---|---|---|"]
    for how, count, seconds in rows:
        ratio = (count / seconds) / (rows[0][1] / rows[0][2])
        lines.append(f"| {how} | {count} | {seconds:.0f} | {count / seconds:.2f} | {ratio:.1f} |")
    return "\n".join(lines) + "\n"


def _run(options: BatchTable, *words: str) -> float:
    """Seconds of one command."""
    line = [sys.executable, "-m", "manyview.cli.main", *words, "--model", options.model, "--to", "none"]
    threads = str(options.threads)
    start = time.perf_counter()
    subprocess.run(
        [*line, "--image-size", str(options.image_size)],
        env={**os.environ, "OMP_NUM_THREADS": threads, "MKL_NUM_THREADS": threads},
        stdout=subprocess.DEVNULL,
        check=True,
    )
    return time.perf_counter() - start


if __name__ == "__main__":
    sys.exit(run_command(BatchTable, write_table, "tools.results.batch"))
