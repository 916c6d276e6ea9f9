"""What refinement makes of a bad start: `python -m tools.results.refined docs/results/refined --data DATA`.

Runs `manyview evaluate posed --refine` with the bundled model on every posed set beside incremental COLMAP,
on few views, and where there is depth with `--refine depth`; and a video of many frames with `reconstruct
--refine`. Some minutes a set on two cores.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tyro

from manyview.datasets import read_posed_set
from manyview.evaluate.report.markdown import AREAS, fixed, table
from manyview.files.writing import write_files
from tools.command import run_command
from tools.results.posed import posed_sets

_HEAD = (
    *("set", "views", "refined", "AUC@3 exact", "AUC@5", "AUC@30", "focal %", "AbsRel", "seconds"),
    *("AUC@3 exact before", "AUC@5 before", "AUC@30 before", "focal % before", "AbsRel before"),
    *("COLMAP: views", "AUC@3 exact", "AUC@5", "AUC@30", "focal %", "seconds"),
)


@dataclass(frozen=True)
class RefinedTables:
    """Write refined.json and refined.md to OUT."""

    out: tyro.conf.Positional[Path]
    data: Path
    """Folder of posed image sets (docs/evaluation-posed.md)."""
    sets: tuple[str, ...] = ()
    """Names of the sets to use; default: all that can be read."""
    views: int = 24
    """Views of a set at most."""
    few: tuple[int, ...] = (2, 3, 4)
    """The first set again with so few views."""
    depth: bool = True
    """Also measure depth, on sets that have true depth."""
    video: Path | None = None
    """A video, of which --video-frames are reconstructed and refined."""
    video_frames: int = 300
    model: str = "manyview-small"
    remake: bool = False
    """Write refined.md anew from refined.json, without any run."""


def measure(args: RefinedTables) -> None:
    """Run, or read what was run, and write both files."""
    from manyview.reconstruction.plan.environment import commit, cpu_name

    path = args.out / "refined.json"
    if args.remake:
        content = json.loads(path.read_text(encoding="utf-8"))
    else:
        command = "python -m tools.results.refined docs/results/refined --data DATA"
        content = {"command": command, "cpu": cpu_name(), "commit": commit(), "model": args.model, "runs": []}
        for run in _runs(args):
            content["runs"].append(run)
            sys.stdout.write(f"{run['name']}: done\n")
            sys.stdout.flush()
            write_files(args.out, {"refined.json": content})
    write_files(args.out, {"refined.json": content, "refined.md": markdown(content)})


def _runs(args: RefinedTables) -> Iterator[dict[str, Any]]:
    sets = args.sets or posed_sets(args.data)
    colmap = ("--references", "colmap")
    for name in sets:
        yield _evaluated(args, name, args.views, "cameras", *colmap)
    for views in args.few:
        yield _evaluated(args, sets[0], views, "cameras", *colmap)
    if args.depth:
        for name in sets:
            if read_posed_set(args.data / name).depth is not None:
                yield _evaluated(args, name, args.views, "depth", "--references", "none")
    if args.video is not None:
        yield _video(args, args.video)


def _evaluated(args: RefinedTables, name: str, views: int, refine: str, *more: str) -> dict[str, Any]:
    """One set as `evaluate posed` measures it."""
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / name).symlink_to((args.data / name).resolve())
        given = ("evaluate", "posed", name, "--model", args.model, "--accel", "dense", "--views", str(views))
        command = [sys.executable, "-m", "manyview.cli.main", *given, "--refine", refine, *more]
        subprocess.run([*command, "--out", "out"], cwd=folder, check=True, stdout=subprocess.DEVNULL)
        stored = json.loads((Path(folder) / "out" / "results.json").read_text(encoding="utf-8"))
    (one,) = stored["sets"]
    return {"name": name, "refine": refine, "environment": stored["settings"]["environment"], **one}


def _video(args: RefinedTables, video: Path) -> dict[str, Any]:
    """A video as `reconstruct --refine` takes it."""
    with tempfile.TemporaryDirectory() as folder:
        began = time.perf_counter()
        given = ("reconstruct", str(video.resolve()), "out", "--model", args.model, "--to", "none")
        command = [sys.executable, "-m", "manyview.cli.main", *given, "--refine"]
        frames = ("--max-frames", str(args.video_frames))
        subprocess.run([*command, *frames], cwd=folder, check=True, stdout=subprocess.DEVNULL)
        seconds = time.perf_counter() - began
        header = json.loads((Path(folder) / "out" / "reconstruction.json").read_text(encoding="utf-8"))
    kept = ("sentence", "counts", "timings_s", "accepted")
    refinement = {name: header["refinement"][name] for name in kept}
    return {"name": video.name, "refine": "video", "seconds": seconds, **refinement}


def markdown(content: dict[str, Any]) -> str:
    """The page: every set, measured depth, the video."""
    runs = content["runs"]
    threads = next(f"{run['environment']['threads']} threads" for run in runs if "environment" in run)
    lines = [
        "# Refined cameras",
        "",
        f"Made by `{content['command']}` on {content['cpu']}, {threads}, commit {content['commit']}, from "
        f"the dense attention of {content['model']}, which is a bad start on "
        "photographs. COLMAP is incremental mapping of the same images, all pairs, on the same cores; its "
        "figures count views that it leaves out as wrong. "
        f"{AREAS}. Depth after one median scale a set. What is done, and when "
        "it is refused: [refinement](../../refinement.md).",
        "",
        *table(_HEAD, [_cells(run) for run in runs if run["refine"] == "cameras"]),
        "",
    ]
    for run in runs:
        if run["refine"] == "cameras":
            name = "dense, refined"
            notes = "; ".join(note.removeprefix(f"{name}: ") for note in _row(run, name)["notes"])
            lines.append(f"- {run['name']}, {run['set']['views']} views: {notes}.")
    measured = [run for run in runs if run["refine"] == "depth"]
    if measured:
        head = ("set", "views", "confirmed %", "their median error %", "AbsRel", "AbsRel before")
        rows = [_depth(run) for run in measured]
        lines += ["", "## Measured depth (`--refine depth`)", "", *table(head, rows)]
    for run in runs:
        if run["refine"] == "video":
            counts, spent = run["counts"], run["timings_s"]
            lines += [
                "",
                f"## {counts['views']} frames of a video",
                "",
                f"`manyview reconstruct {run['name']} out --refine --max-frames {counts['views']}`: "
                f"{run['seconds']:.0f} s in all ("
                + ", ".join(f"{stage} {seconds:.0f}" for stage, seconds in spent.items())
                + f"); {run['sentence']}.",
            ]
    return "\n".join(lines).rstrip() + "\n"


def _row(run: dict[str, Any], name: str) -> dict[str, Any]:
    return next(row for row in run["rows"] if row["name"] == name)


def _cells(run: dict[str, Any]) -> list[str]:
    before, after, colmap = (_row(run, name) for name in ("dense", "dense, refined", "colmap"))
    views = run["set"]["views"]
    cells = [run["name"], str(views), fixed(after["refined_views"], ".0f")]
    for row in (after, before):
        cells += [*_poses(row), fixed(row["numbers"]["focal_error"], ".1f")]
        n = row["numbers"]
        cells.append(fixed(n["abs_rel"], ".3f"))
        cells += [fixed(row["refine_seconds"], ".1f")] if row is after else []
    n = colmap["numbers"]
    cells += [str(views - colmap["left_out"]), *_poses(colmap)]
    return [*cells, fixed(n["focal_error"], ".1f"), fixed(colmap["seconds"], ".1f")]


def _poses(row: dict[str, Any]) -> list[str]:
    return [fixed(row["numbers"].get(name), ".1f") for name in ("auc_integral_3", "auc_5", "auc_30")]


def _depth(run: dict[str, Any]) -> list[str]:
    before, after = (_row(run, name) for name in ("dense", "dense, refined"))
    n = after["numbers"]
    return [
        run["name"],
        str(run["set"]["views"]),
        fixed(n.get("confirmed"), ".1f"),
        fixed(n.get("confirmed_abs_rel_median"), ".2f", 100),
        fixed(n["abs_rel"], ".3f"),
        fixed(before["numbers"]["abs_rel"], ".3f"),
    ]


if __name__ == "__main__":
    sys.exit(run_command(RefinedTables, measure, "tools.results.refined"))
