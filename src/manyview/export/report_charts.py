"""Charts of the report as HTML and inline SVG: confidence histogram, bars, legend."""

from __future__ import annotations

import html
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

import numpy as np

from .colours import colour_map, css_colour

if TYPE_CHECKING:
    from ..reconstruction.result.result import Reconstruction

_BINS = 60


def histogram_svg(scene: Reconstruction, threshold: float) -> str:
    """Share of valid pixels by confidence, bars below `threshold` muted, quartiles marked."""
    low, first, middle, third, high = (scene.confidence_threshold(p) for p in (0, 25, 50, 75, 99.5))
    if not np.isfinite(low):
        return '<p class="quiet">No pixel has valid depth.</p>'
    if high <= low:
        high = low + max(abs(low), 1.0) * 1e-3
    # VGGT's confidence spans orders of magnitude; equal steps of its logarithm show all of it.
    logarithmic = low > 0 and high / low > 20
    edges = np.geomspace(low, high, _BINS + 1) if logarithmic else np.linspace(low, high, _BINS + 1)
    counts = np.zeros(_BINS, dtype=np.int64)
    for index in range(len(scene)):
        conf = scene.depth_conf[index][scene.view_valid(index)].astype(np.float64)
        counts += np.histogram(np.clip(conf, low, high), bins=edges)[0]
    width, height, base = 860, 220, 184
    step = (width - 20) / _BINS
    parts = [
        f'<svg class="chart" viewBox="0 0 {width} {height}" role="img" aria-label="Confidence histogram">'
    ]
    for index, count in enumerate(counts):
        bar = (base - 14) * count / counts.max()
        kind = "bar" if edges[index + 1] > threshold else "bar muted"
        parts.append(
            f'<rect class="{kind}" x="{10 + index * step:.1f}" y="{base - bar:.1f}" '
            f'width="{step - 1.5:.1f}" height="{bar:.1f}"/>'
        )
    for percentile, value in ((25, first), (50, middle), (75, third)):
        place = np.interp(value, edges, np.arange(_BINS + 1))
        x = float(10 + place * step)
        parts.append(f'<path class="mark" d="M{x:.1f} 8V{base}"/>')
        parts.append(f'<text class="tick" x="{x + 4:.1f}" y="16">{percentile} %</text>')
    for share in (0, 0.25, 0.5, 0.75, 1):
        anchor = "start" if share == 0 else "end" if share == 1 else "middle"
        edge = float(edges[round(share * _BINS)])
        x = 10.0 + share * (width - 20)
        parts.append(
            f'<text class="tick" text-anchor="{anchor}" x="{x:.1f}" y="{base + 18}">{edge:.3g}</text>'
        )
    scale = ", logarithmic" if logarithmic else ""
    parts.append(
        f'<text class="tick" text-anchor="end" x="{width - 10}" y="{height - 2}">confidence{scale}</text>'
    )
    return "".join([*parts, "</svg>"])


def bars(values: Mapping[str, float], text: Callable[[float], str]) -> str:
    """Horizontal bars, one per stage, in the given order."""
    if not values:
        return '<p class="quiet">Not recorded.</p>'
    largest = max(max(values.values()), 1e-12)
    rows = []
    for name, value in values.items():
        share = 100 * max(value, 0.0) / largest
        kind = "row part" if ": " in name else "row"
        rows.append(
            f'<div class="{kind}"><span>{html.escape(str(name))}</span>'
            f'<i><b style="width:{share:.1f}%"></b></i><em>{html.escape(text(value))}</em></div>'
        )
    return f'<div class="bars">{"".join(rows)}</div>'


def legend(name: str, low: str, high: str) -> str:
    """A colour ramp with a word at each end."""
    stops = ",".join(css_colour(colour) for colour in colour_map(np.linspace(0, 1, 9), name))
    style = f"background:linear-gradient(90deg,{stops})"
    return f'<span class="legend">{html.escape(low)}<i style="{style}"></i>{html.escape(high)}</span>'
