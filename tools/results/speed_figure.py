"""The README's figure: accuracy over time of each plan at 300 views; `tools.results.tables` draws it."""

from __future__ import annotations

import json
from pathlib import Path

from matplotlib.figure import Figure

from manyview.models.auto import BUNDLED
from tools.results.excerpts import PLANS

FIGURE = Path("docs/images/speed.png")


def draw_speed(results: Path, path: Path) -> None:
    """AUC@30 over the seconds of a scene, from docs/results; a plan of `PLANS` is a point with its name."""
    data = json.loads((results / BUNDLED / "easy-300" / "results.json").read_text(encoding="utf-8"))
    (case,) = data["cases"]
    rows = {row["plan"]: row["scores"] for row in case["rows"] if row["plan"] in PLANS}
    figure = Figure(figsize=(8, 3.2), layout="constrained")
    axes = figure.subplots()
    for plan, scores in rows.items():
        point = (scores["seconds"], scores["auc_30"])
        axes.plot(*point, "o", color="tab:red" if plan == "dense" else "tab:blue")
        axes.annotate(plan, point, xytext=(2, 5), textcoords="offset points", fontsize=8, rotation=28)
    dense = rows["dense"]
    axes.axhline(dense["auc_30"], color="0.8", linewidth=1, zorder=0)
    axes.set_xscale("log", base=2)
    axes.set_xlim(min(one["seconds"] for one in rows.values()) / 1.3, dense["seconds"] * 1.3)
    axes.set_ylim(0, 1.45 * max(one["auc_30"] for one in rows.values()))
    axes.xaxis.set_major_formatter("{x:g}")
    machine = data["settings"]["environment"]
    axes.set_xlabel(
        f"seconds of {case['case']['views']} views ({machine['device_name']}, {machine['threads']} threads)"
    )
    axes.set_ylabel("AUC@30 of cameras, %")
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=110, metadata={"Software": None})
