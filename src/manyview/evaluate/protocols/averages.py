"""Figures of scenes into one figure, in the ways that papers average."""

from __future__ import annotations

import re
from collections.abc import Sequence

from .measures import Figures
from .measures.relative_pose import HISTOGRAM_DEG

_AUC = re.compile(r"(auc)_(\d+)$")


def averaged(scenes: Sequence[tuple[str, Figures]], how: str) -> Figures:
    """One figure by name of (group, figures of a scene) in the order of the first scene; None of none.

    A scene without a figure is left out of that one. "pooled": AUC from the histograms of all pairs
    together (VGGT's binning; up to 30 degrees), RRA and RTA weighted by pairs, all else the mean over scenes.
    "pixels": weighted by the compared pixels. "groups": the mean over the groups' means.
    """
    names = list(dict.fromkeys(name for _, figures in scenes for name in figures))
    return {name: _average(name, scenes, how) for name in names if not name.startswith("below_")}


def _average(name: str, scenes: Sequence[tuple[str, Figures]], how: str) -> float | None:
    rows = [(group, figures[name], figures) for group, figures in scenes if figures.get(name) is not None]
    if not rows:
        return None
    values = [float(value) for _, value, _ in rows if value is not None]
    if how == "groups":
        groups: dict[str, list[float]] = {}
        for (group, _, _), value in zip(rows, values):
            groups.setdefault(group, []).append(value)
        values = [sum(own) / len(own) for own in groups.values()]
    elif how == "pooled" and name.startswith(("auc_", "rra_", "rta_")):
        pooled = _pooled(name, [figures for _, _, figures in rows])
        if pooled is not None:
            return pooled
        return _weighted(values, [figures.get("pairs") or 0.0 for _, _, figures in rows])
    elif how == "pixels":
        pixels = "shift_pixels" if name.startswith("shift_") else "pixels"
        return _weighted(values, [figures.get(pixels) or 0.0 for _, _, figures in rows])
    return sum(values) / len(values)


def _weighted(values: Sequence[float], weights: Sequence[float]) -> float:
    total = sum(weights)
    if total <= 0:
        return sum(values) / len(values)
    return sum(value * weight for value, weight in zip(values, weights)) / total


def _pooled(name: str, rows: Sequence[Figures]) -> float | None:
    """AUC of all pairs of all scenes; None for another figure."""
    match = _AUC.match(name)
    pairs = sum(figures.get("pairs") or 0.0 for figures in rows)
    if match is None or not pairs or int(match[2]) > HISTOGRAM_DEG:
        return None
    degrees = range(1, int(match[2]) + 1)
    below = [sum(figures.get(f"below_{d}") or 0.0 for figures in rows) for d in degrees]
    return 100.0 * sum(below) / (pairs * len(below))
