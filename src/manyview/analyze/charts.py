"""The figures of an analysis as one picture."""

from __future__ import annotations

from typing import Any, BinaryIO

from .analysis import Analysis

_MASSES = (
    ("mass_own_patch", "own patch", "#e45756"),
    ("mass_own_frame", "own frame", "#f2b447"),
    ("mass_reference", "reference frame", "#4c78a8"),
    ("mass_other_frames", "other frames", "#72b7b2"),
    ("mass_special", "special tokens", "#b279a2"),
)
_KNOCKOUTS = {
    "frame": ("own frame only", "#e45756"),
    "mean": ("one mean key", "#f2b447"),
    "coarse": ("quarter of keys", "#4c78a8"),
}


def draw(analysis: Analysis, out: BinaryIO) -> None:
    """Write a PNG with six panels: mass, matches, position, sharpness, similarity, knock-outs."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(14, 7.5), layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(2, 3).flatten()
    layers = list(range(len(analysis.views)))
    numbers = [view.numbers for view in analysis.views]

    def series(name: str) -> list[float]:
        return [getattr(n, name) for n in numbers]

    bottom = [0.0] * len(layers)
    for name, label, colour in _MASSES:
        values = series(name)
        panels[0].bar(layers, values, bottom=bottom, color=colour, label=label, width=0.85)
        bottom = [b + v for b, v in zip(bottom, values, strict=True)]
    panels[1].plot(layers, series("match_top1"), "o-", label="strongest key, mean of heads")
    panels[1].plot(layers, series("match_top1_best_head"), "s--", label="best head")
    panels[1].plot(layers, series("match_top8"), "^:", label="eight strongest keys")
    panels[1].plot(layers, series("match_chance"), color="grey", lw=1, label="chance (upper bound)")
    panels[2].plot(layers, series("same_row"), "o-", label="strongest key in the same row")
    panels[2].plot(layers, series("same_place"), "s-", label="at the same place")
    panels[2].plot(layers, [f[0] for f in analysis.follows], "^--", label="turned by 180°: follows content")
    panels[2].plot(layers, [f[1] for f in analysis.follows], "v--", label="turned by 180°: stays in place")
    panels[3].plot(layers, series("entropy"), "o-", label="entropy (1: uniform)")
    panels[3].plot(layers, series("keys_for_90"), "s-", label="keys for 90 % of the mass")
    panels[3].plot(layers, series("below_tenth"), "^-", label="keys below a tenth of uniform")
    for letter, style in (("q", "-"), ("k", "--")):
        for kind, mark in (("neighbour", "o"), ("next_frame", "s"), ("random", "^")):
            label = f"{letter}: {kind.replace('_', ' ')}"
            panels[4].plot(layers, series(f"cos_{letter}_{kind}"), mark + style, label=label, ms=4)
    for kind, changes in analysis.knockouts.items():
        label, colour = _KNOCKOUTS[kind]
        panels[5].plot(layers, [c.pose_deg for c in changes], "o-", color=colour, label=label)
    if analysis.split is not None:
        panels[5].axvspan(analysis.split.first - 0.5, analysis.split.last + 0.5, color="#ddd", zorder=0)
    titles = (
        "attention mass",
        "true matches among other frames' keys",
        "position or content",
        "sharpness",
        "cosine similarity of tokens (HTTM)",
        "one layer changed: pose change, degrees",
    )
    for panel, title in zip(panels, titles, strict=True):
        _finish(panel, title, len(layers))
    figure.savefig(out, dpi=110, format="png")


def _finish(panel: Any, title: str, layers: int) -> None:
    panel.set_title(title, fontsize=10)
    panel.set_xlabel("global layer")
    panel.set_xticks(range(0, layers, max(1, layers // 12)))
    panel.set_ylim(bottom=min(0.0, panel.get_ylim()[0]))
    if panel.get_legend_handles_labels()[0]:
        panel.legend(fontsize=7)
    panel.grid(alpha=0.3)
