"""The report's box with the verdict on the result."""

from __future__ import annotations

import html
from typing import TYPE_CHECKING, Any

from ..files.naming import printable
from ..reconstruction.quality.verdict import DOUBTFUL_FROM, GOOD_FROM

if TYPE_CHECKING:
    from ..reconstruction.result.result import Reconstruction

# Name, figure, how it is written.
_FIGURES = (
    (f"score, good from {GOOD_FROM:.2f}, bad below {DOUBTFUL_FROM:.2f}", "score", "{:.2f}"),
    ("image details from their prediction, original pixels", "image_offset_px", "{:.1f}"),
    ("the same as an angle", "image_offset_deg", "{:.1f}°"),
    ("rays of two views differ by", "parallax_deg", "{:.1f}°"),
    ("pixels that a second view confirms in depth", "confirmed_share", "{:.0%}"),
    ("places seen twice whose depths agree within 5 %", "depth_agreement", "{:.0%}"),
    ("reprojection by way of another view's depth, original pixels", "reprojection_px", "{:.1f}"),
    ("spread of focal lengths", "focal_spread", "{:.1%}"),
    ("focal length beside EXIF's", "focal_to_exif", "{:.2f} times"),
    ("views, pairs of them and image details that were compared", "compared", "{}"),
)


def quality_box(scene: Reconstruction) -> str:
    """The grade in words and colour, its figures and the views with little support; empty without one."""
    quality = scene.quality
    if quality is None:
        return ""
    grade, figures = quality.get("grade"), dict(quality.get("figures", {}))
    if "patches" in figures:
        figures["compared"] = f"{figures['views']}, {figures['pairs']}, {figures['patches']}"
    rows = "".join(
        f'<tr><th>{html.escape(name)}</th><td class="number">{_cell(figures[key], form)}</td></tr>'
        for name, key, form in _FIGURES
        if figures.get(key) is not None
    )
    weak = ", ".join(html.escape(printable(name)) for name in quality.get("weak_views", ()))
    listed = f"<details><summary>Views with little support</summary><p>{weak}</p></details>" if weak else ""
    sentence = printable(quality.get("sentence", ""))
    words = html.escape(sentence[:1].upper() + sentence[1:])
    title = html.escape(str(grade)) if grade else "no verdict"
    return (
        f'<section class="quality {html.escape(grade or "")}"><h2>Quality: <b>{title}</b></h2><p>{words}.</p>'
        f"<details><summary>Figures</summary><table>{rows}</table></details>{listed}</section>"
    )


def _cell(value: Any, form: str) -> str:
    return html.escape(form.format(value))
