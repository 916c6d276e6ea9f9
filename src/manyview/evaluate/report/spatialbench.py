"""The rows of SpatialBench's leaderboard from evaluations of its densities."""

from __future__ import annotations

from collections.abc import Mapping

from ..protocols.measures import Figures
from ..runner.records import Evaluation
from .markdown import NONE, fixed, table

_ABS_REL, _AUC, _ATE, _F = "AbsRel", "AUC@30", "ATE", "F-Score"
_FIGURES = {_ABS_REL: "abs_rel", _AUC: "auc_30", _ATE: "ate", _F: "surface_f_0.05"}
_PERCENT = (_AUC, _F)
_COLUMNS = {"single": (_ABS_REL,), "sparse": (_ABS_REL, _AUC)} | dict.fromkeys(
    ("medium", "dense"), (_ABS_REL, _AUC, _ATE, _F)
)
_DID_NOT_FIT = "OOM"


def leaderboard(evaluations: Mapping[str, Evaluation], model: str, parameters: int) -> str:
    """Markdown: a row a plan with the leaderboard's columns, from the evaluations by density.

    AUC and F-score as shares, as it has them; seconds are those of a pass over a sparse scene. The last
    columns are means over sparse, medium and dense, in parentheses where one of these is missing. A plan that
    did not fit in memory in one scene has no figures of that density.
    """
    summaries = {density: one.summary() for density, one in evaluations.items()}
    plans = dict.fromkeys(plan for summary in summaries.values() for plan in summary)
    head = ["Method", "#Params (M)", "Time (s)"]
    head += [f"{density.capitalize()}: {name}" for density, names in _COLUMNS.items() for name in names]
    head += [f"Average: {name}" for name in _FIGURES]
    rows = []
    for plan in plans:
        cells = {
            (density, name): _cell(summaries.get(density, {}).get(plan), name)
            for density, names in _COLUMNS.items()
            for name in names
        }
        seconds = summaries.get("sparse", {}).get(plan, {}).get("forward_s")
        row = [f"{model}, `{plan}`", f"{parameters / 1e6:.0f}", fixed(seconds, ".3g")]
        row += [cell if isinstance(cell, str) else fixed(cell, ".3f") for cell in cells.values()]
        rows.append([*row, *(_average(cells, name) for name in _FIGURES)])
    return "\n".join([*table(head, rows), ""])


def _cell(figures: Figures | None, name: str) -> float | str | None:
    """A mean over scenes, or why there is none."""
    if figures is None:
        return None
    if figures["scenes_failed"]:
        return _DID_NOT_FIT
    value = figures.get(_FIGURES[name])
    return value / 100 if value is not None and name in _PERCENT else value


def _average(cells: Mapping[tuple[str, str], float | str | None], name: str) -> str:
    wanted = [value for (density, one), value in cells.items() if one == name and density != "single"]
    values = [value for value in wanted if isinstance(value, float)]
    if not values:
        return NONE
    mean = f"{sum(values) / len(values):.3f}"
    return mean if len(values) == len(wanted) else f"({mean})"
