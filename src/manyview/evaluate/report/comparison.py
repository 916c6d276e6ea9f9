"""Two results of one protocol scene by scene: differences, and how sure their mean is.

The interval is the percentile bootstrap over scenes (Efron 1979), as scenes are what a dataset samples; pairs
and pixels within a scene are not independent.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ...errors import UsageError, require_plot
from ..runner.records import Evaluation
from .markdown import number

_DRAWS = 10_000
_MOST_AXES = 12
# Figures of which more is better; of all others, less.
_MORE = (
    *("auc_", "rra_", "rta_", "nc", "delta_", "f_score", "icp_fitness", "shift_delta_", "registered"),
    *("surface_f_", "surface_precision", "surface_recall"),
)


@dataclass(frozen=True)
class Difference:
    """Of one figure: (a, b) by scene, the mean of b - a, and the 95 percent interval of that mean.

    The interval is None below three scenes: there is nothing to draw from. `sure`: it does not hold zero.
    """

    figure: str
    scenes: tuple[str, ...]
    a: tuple[float, ...]
    b: tuple[float, ...]
    mean: float
    interval: tuple[float, float] | None

    @property
    def sure(self) -> bool:
        return self.interval is not None and (self.interval[0] > 0 or self.interval[1] < 0)

    @property
    def verdict(self) -> str:
        """ "better", "worse", "not distinguishable" or, below three scenes, "too few scenes", of b."""
        if self.interval is None:
            return "too few scenes"
        if not self.sure:
            return "not distinguishable"
        return "better" if (self.mean > 0) == self.figure.removeprefix("w2c_").startswith(_MORE) else "worse"


def bootstrap_interval(values: Sequence[float]) -> tuple[float, float] | None:
    """95 percent interval of the mean by drawing scenes with repetition; None below three values."""
    if len(values) < 3:
        return None
    generator = np.random.default_rng(0)
    array = np.asarray(values, dtype=np.float64)
    means = array[generator.integers(0, len(array), (_DRAWS, len(array)))].mean(1)
    low, high = np.quantile(means, [0.025, 0.975])
    return float(low), float(high)


def compare_results(
    first: Evaluation,
    second: Evaluation,
    plans: tuple[str, str],
    figures: Sequence[str] = (),
) -> tuple[Difference, ...]:
    """`plans[1]` of `second` against `plans[0]` of `first`, by default in the protocol's columns.

    Only scenes with the same frames and the same inputs in both are compared. UsageError for results of
    different datasets or protocols, an absent plan, or no common scene.
    """
    if first.settings["dataset"] != second.settings["dataset"]:
        both = f"{first.settings['dataset']} and {second.settings['dataset']}"
        raise UsageError(f"results of different datasets must not be compared ({both})")
    one, two = first.settings["protocol"], second.settings["protocol"]
    if one != two:
        both = (
            f"{one['name']} and {two['name']}"
            if one["name"] != two["name"]
            else f"{one['name']}, changed since"
        )
        raise UsageError(f"results of different protocols must not be compared ({both})")
    for result, plan in zip((first, second), plans):
        if plan not in result.plans:
            raise UsageError(f"there is no plan {plan!r} in a result; it has {', '.join(result.plans)}")
    rows = [_rows(result, plan) for result, plan in zip((first, second), plans)]
    common = [key for key in rows[0] if key in rows[1]]
    if not common:
        raise UsageError("the results have no scene in common with the same frames and inputs")
    differences = []
    for figure in figures or first.settings["protocol"]["columns"]:
        triples = [
            (key[0], float(a), float(b))
            for key in common
            if (a := rows[0][key].get(figure)) is not None and (b := rows[1][key].get(figure)) is not None
        ]
        if not triples:
            continue
        names, a_values, b_values = zip(*triples)
        change = [b - a for a, b in zip(a_values, b_values)]
        mean = sum(change) / len(change)
        interval = bootstrap_interval(change)
        differences.append(Difference(figure, names, a_values, b_values, mean, interval))
    return tuple(differences)


def _rows(result: Evaluation, plan: str) -> dict[tuple[str, str], dict[str, float | None]]:
    return {
        (scene.name, scene.inputs_sha256): {**row.figures, "forward_s": row.timings_s.get("forward")}
        for scene in result.scenes
        for row in scene.rows
        if row.plan == plan and row.failed is None
    }


def what_differs(first: Evaluation, second: Evaluation) -> tuple[str, ...]:
    """A line on each result, and one on the settings in which they differ beside the model."""
    lines = [
        f"{letter}: {s['model']}, weights {s['weights_sha256'][:12]}, longer side {s['image_size']}, "
        f"{s['environment']['device_name']}, {s['environment']['precision']}, ManyView "
        f"{s['environment']['manyview']}"
        for letter, s in zip("AB", (first.settings, second.settings))
    ]
    stated = ("model", "weights_sha256")
    plain = {"code_sha256": "ManyView's own code", "environment": "machine or libraries"}
    names = [
        name
        for name, value in first.settings.items()
        if name not in stated and value != second.settings.get(name)
    ]
    other = [plain.get(name, name) for name in names]
    if other:
        lines.append(f"They also differ in: {', '.join(other)}")
    return tuple(lines)


def comparison_table(differences: Sequence[Difference], names: tuple[str, str]) -> str:
    """Markdown: one line a figure, then every scene."""
    lines = [
        f"# {names[1]} against {names[0]}",
        "",
        f"| figure | scenes | {names[0]} | {names[1]} | difference | 95 % of the mean | {names[1]} is |",
        "|---|---:|---:|---:|---:|---|---|",
    ]
    for d in differences:
        count = len(d.scenes)
        interval = "–" if d.interval is None else f"{number(d.interval[0])} to {number(d.interval[1])}"
        cells = [d.figure, str(count), number(sum(d.a) / count), number(sum(d.b) / count), number(d.mean)]
        lines.append("| " + " | ".join([*cells, interval, d.verdict]) + " |")
    lines += [
        "",
        "Means over the scenes that both have; the interval is a bootstrap over scenes, none below three.",
        "",
        "| scene | figure | " + " | ".join(names) + " | difference |",
        "|---|---|---:|---:|---:|",
    ]
    for d in differences:
        for scene, a, b in zip(d.scenes, d.a, d.b):
            lines.append(f"| {scene} | {d.figure} | {number(a)} | {number(b)} | {number(b - a)} |")
    return "\n".join([*lines, ""])


def comparison_csv(differences: Sequence[Difference]) -> str:
    """One line a scene and figure."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["figure", "scene", "a", "b", "difference"])
    for d in differences:
        writer.writerows((d.figure, scene, a, b, b - a) for scene, a, b in zip(d.scenes, d.a, d.b))
    return text.getvalue()


def draw_differences(differences: Sequence[Difference], names: tuple[str, str], path: Path) -> None:
    """A PNG with one axis a figure, as figures differ in unit. MissingExtraError without matplotlib."""
    require_plot()
    from matplotlib.figure import Figure

    shown = list(differences)[:_MOST_AXES]
    figure = Figure(figsize=(8, 0.9 + 0.75 * max(1, len(shown))), layout="constrained")
    axes = figure.subplots(max(1, len(shown)), 1, squeeze=False)[:, 0]
    for which, one in zip(axes, shown):
        change = [b - a for a, b in zip(one.a, one.b)]
        which.axvline(0, color="0.6", linewidth=1)
        # Dots are spread upwards in the order of the scenes, so that equal ones can be seen.
        which.scatter(change, [i / max(1, len(change) - 1) for i in range(len(change))], s=9, alpha=0.5)
        if one.interval is not None:
            which.axvspan(*one.interval, color="C1", alpha=0.3)
        which.axvline(one.mean, color="C1", linewidth=2)
        which.set_yticks([])
        which.set_ylabel(one.figure, rotation=0, ha="right", va="center", fontsize=8)
        which.tick_params(labelsize=7)
        widest = max(map(abs, change), default=0.0)
        which.set_xlim(-1.1 * (widest or 1.0), 1.1 * (widest or 1.0))
    figure.suptitle(f"{names[1]} minus {names[0]}: scenes, mean and 95 % interval", fontsize=9)
    figure.savefig(path, dpi=130, format="png")
