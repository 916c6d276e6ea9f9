"""Tables of docs/results on photographs with known cameras, about ten minutes on four idle CPU cores.

`python -m tools.results.posed DATA` evaluates the weights in the package, with every preset, beside
image-independent baselines and COLMAP (the extra colmap), and writes docs/results/posed.md.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import tyro

from manyview.datasets import read_posed_set
from manyview.errors import ManyViewError, UsageError
from tools.command import run_command
from tools.results.plans import ALL_PLANS, MODELS
from tools.results.posed_summary import summary

_LEFT_OUT = (
    "avggt:early=0,stride=2x2,diagonal=false,mean=false", "avggt:early=0,stride=2x2+httm", "anchors:frames=4",
    "random:keep=0.1",
)  # fmt: skip


@dataclass(frozen=True)
class PosedTables:
    """Evaluate models on every posed image set in a folder, and write the tables."""

    data: tyro.conf.Positional[Path]
    """Folder whose folders hold images and cameras (docs/evaluation-posed.md)."""
    models: tuple[str, ...] = MODELS
    """Names or files of weights."""
    sets: tuple[str, ...] = ()
    """Names of the folders to use; default: all that can be read."""
    views: int = 24
    """Views of a set at most."""
    out: Path = Path("docs/results")
    """Folder for MODEL/posed and posed.md."""


def evaluate(args: PosedTables) -> None:
    """Run `manyview evaluate posed` for each model."""
    sets = args.sets or posed_sets(args.data)
    out = args.out.resolve()
    out.mkdir(parents=True, exist_ok=True)
    plans = [plan for plan in ALL_PLANS if plan not in _LEFT_OUT]
    # Links with plain names, so that the commands in the results name nothing of this machine.
    with tempfile.TemporaryDirectory() as name:
        work = Path(name)
        (work / "docs").mkdir()
        (work / "docs" / "results").symlink_to(out)
        for one in sets:
            (work / one).symlink_to((args.data / one).resolve())
        for model in args.models:
            command = [
                *(sys.executable, "-m", "manyview.cli.main", "evaluate", "posed", *sets, "--model", model),
                *("--views", str(args.views), "--accel", *plans),
                *("--references", "identity", "mean-step", "colmap", "--reference-cache", "found-by-colmap"),
                *("--out", f"docs/results/{Path(model).stem}/posed", "--overwrite"),
            ]
            subprocess.run(command, cwd=work, check=True)
    (out / "posed.md").write_text(summary(out, [Path(model).stem for model in args.models]), encoding="utf-8")


def posed_sets(folder: Path) -> tuple[str, ...]:
    found = []
    for path in sorted(folder.iterdir()):
        try:
            found += [path.name] if path.is_dir() and len(read_posed_set(path)) > 1 else []
        except ManyViewError:
            continue
    if not found:
        raise UsageError(f"{folder}: holds no posed image set; see docs/evaluation-posed.md")
    return tuple(found)


if __name__ == "__main__":
    sys.exit(run_command(PosedTables, evaluate, "tools.results.posed"))
