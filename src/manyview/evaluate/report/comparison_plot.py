"""Differences of two results as a plot: every scene a dot, the mean and its interval beside zero."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ...errors import require_plot
from .comparison import Difference

_MOST = 12


def draw_differences(differences: Sequence[Difference], names: tuple[str, str], path: Path) -> None:
    """A PNG with one axis a figure, as figures differ in unit. MissingExtraError without matplotlib."""
    require_plot()
    from matplotlib.figure import Figure

    shown = list(differences)[:_MOST]
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
