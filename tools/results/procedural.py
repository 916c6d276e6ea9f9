"""Tables of docs/results on procedural scenes, about 35 minutes on four idle CPU cores.

`python -m tools.results.procedural [MODEL ...] [--runs easy medium ...]` evaluates `manyview-small`, or the
models named, and writes summary.md for each.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tyro

from manyview.errors import UsageError
from tools.command import run_command
from tools.results.plans import ALL_PLANS, FEW_PLANS, MODELS

_RESULTS = Path("docs/results")
_SIZE = ("112", "112")  # whatever the weights were trained on: tables stay comparable, 300 views affordable


_SEQUENCE = ("--order", "sequence")
RUNS: dict[str, Sequence[str]] = {
    "easy": ("--level", "easy", "--views", "8", "24", "64", "--scenes", "8"),
    "medium": ("--level", "medium", "--views", "8", "24", "--scenes", "8", *_SEQUENCE),
    "easy-150": ("--level", "easy", "--views", "150", "--scenes", "2"),
    "easy-300": ("--level", "easy", "--views", "300", "--scenes", "1", *_SEQUENCE),
}
"""Options of `manyview evaluate synthetic` for each folder of a model's results."""


def models_with_summary(results: Path = _RESULTS) -> list[str]:
    """Names of the models of which docs/results has such runs."""
    return sorted({path.parents[1].name for name in RUNS for path in results.glob(f"*/{name}/results.json")})


@dataclass(frozen=True)
class Procedural:
    """Write docs/results/MODEL/RUN and summary.md of each model."""

    models: tyro.conf.Positional[tuple[str, ...]] = MODELS
    """Names of models."""
    runs: tuple[str, ...] = tuple(RUNS)
    """Which of easy, medium, easy-150 and easy-300; `easy` has all plans, the others a choice of them."""


def evaluate(model: str, name: str) -> None:
    """Run `manyview evaluate synthetic` for one folder of results."""
    subprocess.run(
        [
            *(sys.executable, "-m", "manyview.cli.main", "evaluate", "synthetic", "--model", model),
            *RUNS[name],
            *("--size", *_SIZE),
            *("--accel", *(ALL_PLANS if name == "easy" else FEW_PLANS)),
            *("--out", str(_RESULTS / model / name), "--overwrite"),
        ],
        check=True,
    )


def summary(folder: Path) -> str:
    """Markdown of one line a plan: AUC@30, its share of dense, and for long cases attention and time."""
    cases: dict[str, dict[str, dict[str, Any]]] = {}
    for part in ("easy", "easy-150", "easy-300", "medium"):
        path = folder / part / "results.json"
        for case in json.loads(path.read_text())["cases"] if path.exists() else ():
            name = "{level} {views} {order}".format(**case["case"])
            cases[name] = {row["plan"]: row["scores"] for row in case["rows"]}
    plans = dict.fromkeys(plan for rows in cases.values() for plan in rows)
    last = [name for name in ("easy 64 sequence", "easy 300 sequence") if name in cases] or list(cases)[-1:]
    head = [*cases, *(f"{name}: attention, time" for name in last)]
    lines = ["| plan | " + " | ".join(head) + " |", "|---|" + "---:|" * len(head)]
    for plan in plans:
        cells = [_accuracy(rows, plan) for rows in cases.values()]
        cells += [_cost(cases[name], plan) for name in last]
        lines.append(f"| `{plan}` | " + " | ".join(cells) + " |")
    lines += [
        "",
        "AUC@30 is VGGT's histogram; table.md of each case has the exact area and the focal error too.",
    ]
    return "\n".join(lines) + "\n"


def _accuracy(rows: dict[str, dict[str, Any]], plan: str) -> str:
    if plan not in rows:
        return ""
    auc = rows[plan]["auc_30"]
    return f"{auc:.1f} ({auc / rows['dense']['auc_30']:.0%})"


def _cost(rows: dict[str, dict[str, Any]], plan: str) -> str:
    if plan not in rows:
        return ""
    row, dense = rows[plan], rows["dense"]
    attention = row["attention_flops"] / dense["attention_flops"]
    return f"{attention:.1%}, {row['seconds'] / dense['seconds']:.2f}"


def measure(args: Procedural) -> None:
    """Evaluate the models and write their summaries."""
    for name in args.runs:
        if name not in RUNS:
            raise UsageError(f"--runs knows {', '.join(RUNS)}, not {name!r}")
    for model in args.models:
        for name in args.runs:
            evaluate(model, name)
        (_RESULTS / model / "summary.md").write_text(summary(_RESULTS / model), encoding="utf-8")


def main(argv: Sequence[str] | None = None) -> int:
    """Run from the command line; returns the exit status."""
    return run_command(Procedural, measure, "tools.results.procedural", argv)


if __name__ == "__main__":
    sys.exit(main())
