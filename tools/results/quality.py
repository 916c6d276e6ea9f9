"""How the verdict follows AUC@30: `python -m tools.results.quality docs/results/quality --data DATA`.

Runs the bundled models with several plans on posed sets (at most 24 views) and procedural scenes, and puts
truth with growing noise beside them: some minutes on two cores. True cameras are used for the table alone.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tyro

from manyview.files.writing import write_files
from manyview.reconstruction.quality.verdict import DOUBTFUL_FROM, GOOD_FROM, GRADES
from tools.command import run_command
from tools.results.posed import posed_sets
from tools.results.quality_runs import DEPTH_ONLY, all_runs

BANDS = (70.0, 45.0)
"""AUC@30 from which cameras count as good, and below which as bad."""
_FIGURES = ("score", "image_score", "depth_agreement", "confirmed_share", "image_offset_deg", "parallax_deg")
_OVERSTATED = 3  # cost of a grade above the band, in those of one below


@dataclass(frozen=True)
class QualityTable:
    """Write quality.json and quality.md to OUT."""

    out: tyro.conf.Positional[Path]
    data: Path | None = None
    """Folder of posed image sets (docs/evaluation-posed.md); default: procedural scenes alone."""
    sets: tuple[str, ...] = ()
    """Names of the sets to use; default: all that can be read."""
    remake: bool = False
    """Write quality.md anew from quality.json, without any run."""


def measure(args: QualityTable) -> None:
    """Run, or read what was run, and write both files."""
    from manyview.reconstruction.plan.environment import commit, cpu_name

    if args.remake:
        content = json.loads((args.out / "quality.json").read_text(encoding="utf-8"))
    else:
        sets = () if args.data is None else args.sets or posed_sets(args.data)
        command = "python -m tools.results.quality docs/results/quality --data DATA"
        content = {"command": command, "cpu": cpu_name(), "commit": commit(), "rows": []}
        for run in all_runs([args.data / name for name in sets] if args.data else []):
            found = run.scene.with_quality()
            assert found.quality is not None
            quality = {name: found.quality[name] for name in ("grade", "figures")}
            row = {"set": run.scene_name, "real": run.real, "how": run.how, "auc_30": round(run.auc_30, 1)}
            seconds = round(found.timings_s["quality"], 3)
            content["rows"].append({**row, "views": len(found), "seconds": seconds, "quality": quality})
            sys.stdout.write(f"{run.scene_name}, {run.how}: AUC@30 {run.auc_30:.1f}, {quality['grade']}\n")
    write_files(args.out, {"quality.json": content, "quality.md": markdown(content)})


def markdown(content: dict[str, Any]) -> str:
    """The page: how the score ranks results, what the grades say beside AUC@30, and every row."""
    every = content["rows"]
    rows = [row for row in every if row["how"] != DEPTH_ONLY]
    groups = {
        "all": rows,
        "posed sets": [row for row in rows if row["real"]],
        "procedural scenes": [row for row in rows if not row["real"]],
        "models": [row for row in rows if not _is_truth(row)],
        "models, procedural scenes": [row for row in rows if not (row["real"] or _is_truth(row))],
        "truth with noise": [row for row in rows if _is_truth(row)],
    }
    groups = {name: own for name, own in groups.items() if len(own) > 2}
    lines = [
        "# How the verdict follows AUC@30",
        "",
        f"Made by `{content['command']}` on {content['cpu']}, commit {content['commit']}: {len(every)} "
        "results, at most 24 views each. AUC is VGGT's histogram. What grades mean and where they fail: "
        "[quality](../../quality.md).",
        "",
        "## Rank correlation with AUC@30 (Spearman)",
        "",
        "| figure | " + " | ".join(f"{name} ({len(own)})" for name, own in groups.items()) + " |",
        "|---|" + "---:|" * len(groups),
    ]
    for name in _FIGURES:
        cells = [f"{spearman(_values(own, name), _aucs(own)):.2f}" for own in groups.values()]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    lines += ["", *_grade_table(groups), "", *_left_out(rows), ""]
    spoilt = [row["quality"]["grade"] for row in every if row["how"] == DEPTH_ONLY]
    if spoilt:
        what = "True cameras under spoilt depth (25 %), which AUC@30 cannot see and no figure above counts"
        lines += [f"{what}: " + ", ".join(f"{spoilt.count(grade)} {grade}" for grade in GRADES) + ".", ""]
    names = list(dict.fromkeys(row["set"] for row in every))
    return "\n".join(lines + [line for name in names for line in _set_table(name, every)]).rstrip() + "\n"


def _grade_table(groups: dict[str, list[dict[str, Any]]]) -> list[str]:
    """How many results of each band of AUC@30 have each grade."""
    high, low = BANDS
    lines = [
        "## Grades",
        "",
        f"Results are good from a score of {GOOD_FROM:.2f} on and bad below {DOUBTFUL_FROM:.2f}.",
        "",
        "| results | AUC@30 | " + " | ".join(GRADES) + " |",
        "|---|---|" + "---:|" * len(GRADES),
    ]
    labels = (f"from {high:g} on", f"{low:g} to {high:g}", f"below {low:g}")
    for name in ("models", "truth with noise", "all"):
        for band, label in enumerate(labels):
            own = [row["quality"]["grade"] for row in groups.get(name, ()) if _band(row["auc_30"]) == band]
            counts = " | ".join(str(own.count(grade)) for grade in GRADES)
            lines.append(f"| {name} | {label} | {counts} |")
    return lines


def _left_out(rows: Sequence[dict[str, Any]]) -> list[str]:
    """What thresholds found without a set say about it."""
    names = list(dict.fromkeys(row["set"] for row in rows))
    if len(names) < 2:
        return []
    scores, bands = _values(rows, "score"), np.array([_band(row["auc_30"]) for row in rows])
    own = np.array([row["set"] for row in rows])
    graded = np.array([GRADES.index(row["quality"]["grade"]) for row in rows])
    found, thresholds = np.zeros(len(rows), dtype=int), []
    for name in names:
        thresholds.append(fitted(scores[own != name], bands[own != name]))
        found[own == name] = _grades(scores[own == name], *thresholds[-1])
    low, high = (sorted(values) for values in zip(*thresholds))
    return [
        "Thresholds fitted without the set that they then grade (a grade too high costs "
        f"{_OVERSTATED} times one too low) lie from {low[0]:.2f} to {low[-1]:.2f} and from {high[0]:.2f} to "
        f"{high[-1]:.2f}; they grade {np.mean(found == bands):.0%} as the band does and "
        f"{np.mean(found < bands):.0%} too high. The fixed ones: {np.mean(graded == bands):.0%} and "
        f"{np.mean(graded < bands):.0%}."
    ]


def _is_truth(row: dict[str, Any]) -> bool:
    return bool(row["how"].startswith("truth"))


def fitted(scores: np.ndarray, bands: np.ndarray) -> tuple[float, float]:
    """The thresholds (bad below, good from) of least cost: squared steps between grade and band."""

    def cost(pair: tuple[float, float]) -> float:
        steps = _grades(scores, *pair) - bands
        return float((steps**2 * np.where(steps < 0, _OVERSTATED, 1)).sum())

    ends = np.arange(0.3, 0.96, 0.02)
    return min(((low, high) for low in ends for high in ends if high > low + 0.03), key=cost)


def _grades(scores: np.ndarray, low: float, high: float) -> np.ndarray:
    """0 good, 1 doubtful, 2 bad."""
    return np.where(scores >= high, 0, np.where(scores >= low, 1, 2))


def _band(auc_30: float) -> int:
    return 0 if auc_30 >= BANDS[0] else 1 if auc_30 >= BANDS[1] else 2


def _values(rows: Sequence[dict[str, Any]], name: str) -> np.ndarray:
    return np.array([row["quality"]["figures"][name] or 0.0 for row in rows], dtype=float)


def _aucs(rows: Sequence[dict[str, Any]]) -> np.ndarray:
    return np.array([row["auc_30"] for row in rows])


def spearman(first: np.ndarray, second: np.ndarray) -> float:
    """Rank correlation; equal values share their mean rank."""

    def ranks(values: np.ndarray) -> np.ndarray:
        _, place, counts = np.unique(values, return_inverse=True, return_counts=True)
        return (np.cumsum(counts) - (counts - 1) / 2)[place]

    return float(np.corrcoef(ranks(first), ranks(second))[0, 1])


def _set_table(name: str, every: Sequence[dict[str, Any]]) -> list[str]:
    lines = [
        f"## {name}",
        "",
        "| result | AUC@30 | grade | " + " | ".join(_FIGURES) + " |",
        "|---|---:|---|" + "---:|" * len(_FIGURES),
    ]
    for row in sorted((row for row in every if row["set"] == name), key=lambda row: -row["auc_30"]):
        figures = row["quality"]["figures"]
        cells = ["–" if figures[key] is None else f"{figures[key]:.2f}" for key in _FIGURES]
        first = f"{row['how']} | {row['auc_30']:.1f} | {row['quality']['grade']}"
        lines.append(f"| {first} | {' | '.join(cells)} |")
    return [*lines, ""]


if __name__ == "__main__":
    sys.exit(run_command(QualityTable, measure, "tools.results.quality"))
