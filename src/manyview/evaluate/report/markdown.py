"""What all tables share: cells, Markdown, and the line that says where figures were measured."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

NONE = "–"
REFERENCES = {
    "identity": "`identity` is an image-independent baseline: no rotation, random camera centres, constant "
    "depth.",
    "mean-step": "`mean-step` is an image-independent baseline from the ground truth: the mean true step "
    "from frame to frame, the mean true depth in each pixel.",
    "colmap": "`colmap` is structure from motion on the same images at their own size, its largest model; a "
    "view that is not in it counts as wrong in every pair (180 degrees) and, in ATE, as standing in the mean "
    "of the true centres. It has no depth, and its seconds are of everything.",
}
"""What a table says of each reference."""


AREAS = (
    "AUC is VGGT's histogram of one degree a bin, which reads high at small angles; exact (`auc_integral`): "
    "the area under the same curve itself"
)
"""What a table says of areas under recall curves."""
FOCAL = "focal error: median over views in percent"


def fixed(value: float | None, spec: str, scale: float = 1.0) -> str:
    """A value times `scale` in a format, or a dash."""
    return NONE if value is None else format(scale * value, spec)


def number(value: float | None) -> str:
    """Four significant digits for small numbers, one decimal for large ones."""
    return fixed(value, ".1f" if value is not None and abs(value) >= 10 else ".4g")


def percent(share: float | None) -> str:
    """A share as whole percent."""
    return NONE if share is None else f"{100 * share:.0f} %"


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """The lines of a Markdown table, the first column to the left."""
    lines = [head, ["---", *["---:"] * (len(head) - 1)], *rows]
    return [f"|{'|'.join(line)}|" if line[0] == "---" else f"| {' | '.join(line)} |" for line in lines]


def measured_on(settings: Mapping[str, Any], *more: str) -> str:
    """Weights, versions and machine of a run."""
    machine = settings["environment"]
    where = (f"{machine['device_name']}", f"{machine['precision']}", *more)
    return (
        f"Weights {settings['weights_sha256'][:12]}, ManyView {machine['manyview']}, PyTorch "
        f"{machine['torch']}, {', '.join(where)}"
    )
