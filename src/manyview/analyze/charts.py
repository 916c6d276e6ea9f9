"""Plots of an analysis."""

from __future__ import annotations

from io import BytesIO
from typing import Any

from .analysis import Analysis

_MASSES = (
    ("mass_own_patch", "same patch", "#e45756"),
    ("mass_own_frame", "same frame", "#f2b447"),
    ("mass_reference", "reference frame", "#4c78a8"),
    ("mass_other_frames", "other frames", "#72b7b2"),
    ("mass_special", "special tokens", "#b279a2"),
)
_KNOCKOUTS = {
    "frame": ("same frame only", "#e45756"),
    "mean": ("one mean key", "#f2b447"),
    "coarse": ("quarter of keys", "#4c78a8"),
}
_MATCHES = (
    ("match_top1", "strongest key", "o-"),
    ("match_top1_best_head", "of the best head", "s--"),
    ("match_top8", "eight strongest keys", "^:"),
    ("match_chance", "chance (upper bound)", "-"),
)
_SHARPNESS = (
    ("entropy", "entropy (1: uniform)", "o-"),
    ("keys_for_90", "keys for 90 % of the mass", "s-"),
    ("below_uniform", "below uniform weight", "^:"),
    ("below_tenth", "below a tenth of it", "^-"),
    ("below_hundredth", "below a hundredth", "^--"),
)


def draw(analysis: Analysis, out: BytesIO) -> None:
    """Write a PNG: attention mass, matches, sharpness, similarity, and the effect of knock-outs."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(15, 14), layout="constrained")
    panels = figure.subplots(3, 3).flatten()
    _mass(panels[0], analysis)
    curves = [view.mass_by_distance.tolist() for view in analysis.views]
    _map(panels[1], curves, "mass of a frame by distance", "distance in frames")
    _lines(panels[2], analysis, _MATCHES, "true matches among other frames' keys")
    heads = [view.match_by_head.tolist() for view in analysis.views]
    _map(panels[3], heads, "true matches of the strongest key, by head", "head")
    _position(panels[4], analysis)
    _lines(panels[5], analysis, _SHARPNESS, "sharpness: entropy, and shares of keys")
    _similarity(panels[6], analysis)
    _knockouts(panels[7], analysis, False)
    _knockouts(panels[8], analysis, True)
    figure.savefig(out, dpi=100, format="png")


def _mass(panel: Any, analysis: Analysis) -> None:
    layers = range(len(analysis.views))
    bottom = [0.0 for _ in layers]
    for name, label, colour in _MASSES:
        values = [getattr(view.numbers, name) for view in analysis.views]
        panel.bar(layers, values, bottom=bottom, color=colour, label=label, width=0.85)
        bottom = [b + v for b, v in zip(bottom, values, strict=True)]
    _finish(panel, "attention mass", len(layers))


def _map(panel: Any, by_layer: list[list[float]], title: str, across: str) -> None:
    """A coloured table, a row a layer."""
    image = panel.imshow(by_layer, aspect="auto", vmin=0, origin="lower", interpolation="nearest")
    panel.figure.colorbar(image, ax=panel)
    panel.set_title(title, fontsize=10)
    panel.set_xlabel(across)
    panel.set_ylabel("global layer")
    panel.set_xticks(_ticks(len(by_layer[0])))
    panel.set_yticks(_ticks(len(by_layer)))


def _lines(panel: Any, analysis: Analysis, wanted: tuple[tuple[str, str, str], ...], title: str) -> None:
    for name, label, style in wanted:
        panel.plot([getattr(view.numbers, name) for view in analysis.views], style, label=label, ms=4)
    _finish(panel, title, len(analysis.views))


def _position(panel: Any, analysis: Analysis) -> None:
    panel.plot([view.numbers.same_row for view in analysis.views], "o-", ms=4, label="same row")
    panel.plot([view.numbers.same_place for view in analysis.views], "s-", ms=4, label="same place")
    panel.plot([f[0] for f in analysis.follows], "^--", ms=4, label="rotated: moves with content")
    panel.plot([f[1] for f in analysis.follows], "v--", ms=4, label="rotated: stays in place")
    _finish(panel, "strongest key: position or content", len(analysis.views))


def _similarity(panel: Any, analysis: Analysis) -> None:
    """Lines are means of heads, bands reach from the lowest head to the highest."""
    layers = range(len(analysis.views))
    for index, name in enumerate(analysis.views[0].cosines_by_head):
        heads = [view.cosines_by_head[name] for view in analysis.views]
        style, colour = ("-" if "_q_" in name else "--"), f"C{index % 3}"
        label = name.removeprefix("cos_").replace("_", " ")
        panel.plot([float(h.mean()) for h in heads], style, color=colour, label=label)
        low, high = [float(h.min()) for h in heads], [float(h.max()) for h in heads]
        panel.fill_between(layers, low, high, color=colour, alpha=0.1, lw=0)
    _finish(panel, "cosine similarity (bands: heads)", len(layers))


def _knockouts(panel: Any, analysis: Analysis, second: bool) -> None:
    """Pose change in the first panel; in the second AUC@30 if there is ground truth, else depth."""
    dense = analysis.dense_auc_30
    for kind, changes in analysis.knockouts.items():
        label, colour = _KNOCKOUTS[kind]
        if not second:
            values = [c.pose_deg for c in changes]
        elif dense is not None:
            values = [(c.auc_30 or 0.0) - dense for c in changes]
        else:
            values = [c.depth_rel for c in changes]
        panel.plot(values, "o-", color=colour, label=label, ms=4)
    if analysis.split is not None:
        panel.axvspan(analysis.split.first - 0.5, analysis.split.last + 0.5, color="#eee", zorder=0)
    if not second:
        panel.set_yscale("symlog", linthresh=1.0)
        title = "one layer changed: poses, degrees (grey: middle)"
    else:
        title = f"one layer changed: {'depth, relative' if dense is None else 'AUC@30, points'}"
    _finish(panel, title, len(analysis.views))


def _ticks(count: int) -> range:
    return range(0, count, max(1, -(-count // 12)))


def _finish(panel: Any, title: str, layers: int) -> None:
    panel.set_title(title, fontsize=10)
    panel.set_xlabel("global layer")
    panel.set_xticks(_ticks(layers))
    low, high = panel.get_ylim()
    panel.set_ylim(min(0.0, low), max(0.0, high))
    if panel.get_legend_handles_labels()[0]:
        panel.legend(fontsize=7, ncols=3, loc="upper center", bbox_to_anchor=(0.5, -0.12), frameon=False)
    panel.grid(alpha=0.3)
