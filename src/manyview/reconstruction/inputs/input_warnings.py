"""Warnings about the input: what was turned upright, cropped, padded or left out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

from ...files.naming import counted, enumerated
from .network_image import NetworkImage, Sizing

# Below this share of black blocks, black is taken for part of the scene.
_MUCH_BLACK = 0.05
_LOW_RESOLUTION = 0.25
# Rounding to whole patches bends by less.
_BENT = 1.1


def image_warnings(
    views: Sequence[tuple[str, NetworkImage]], sizing: Sizing, canvas: tuple[int, int], noun: str
) -> list[str]:
    """One sentence per kind of event over all (name, view) pairs; `noun` is "image" or "frame"."""
    notes: list[str] = []

    def add(names: Iterable[str], text: str) -> None:
        affected = list(names)
        if affected:
            notes.append(f"{counted(len(affected), noun)} {text} ({enumerated(affected)})")

    source = "its rotation flag" if noun == "frame" else "EXIF orientation"
    add((name for name, view in views if view.transform.orientation != 1), f"turned upright by {source}")
    cut = [(name, view.transform) for name, view in views if view.transform.cropped]
    if cut and sizing.policy in ("crop", "balanced", "max_size"):
        least = min(
            min(
                t.network_height / (t.scale_y * t.upright_height),
                t.network_width / (t.scale_x * t.upright_width),
            )
            for _, t in cut
        )
        where, of = ("top and bottom", "height") if sizing.policy == "crop" else ("both ends", "longer side")
        text = f"cut at {where} by the {sizing.policy} policy, down to {least:.0%} of the {of}"
        add((name for name, _ in cut), f"{text}; the fit policy keeps them whole")
    notes.extend(_about_sizes(views, sizing, canvas, noun))
    black = {name: view.black_share for name, view in views if view.black_share >= _MUCH_BLACK}
    if black:
        text = f"with solid black areas, up to {max(black.values()):.0%} of the view"
        add(black, f"{text}: the model takes painted areas and bars for part of the scene")
    plain = (name for name, view in views if view.one_colour and name not in black)
    add(plain, "of one colour throughout: there is nothing in them that the model could match")
    done = "ignored as the model's own loader does" if sizing.ignores_transparency else "laid on white"
    add((name for name, view in views if view.transparent), f"with transparency, {done}")
    add(
        (name for name, view in views if view.frame_count > 1),
        "with several frames or pages; the first is used",
    )
    small = (
        name
        for name, view in views
        if max(view.transform.upright_width, view.transform.upright_height)
        < _LOW_RESOLUTION * sizing.target_size
    )
    add(small, f"much smaller than the {sizing.target_size} pixels the model works at, and enlarged")
    return notes


def _about_sizes(
    views: Sequence[tuple[str, NetworkImage]], sizing: Sizing, canvas: tuple[int, int], noun: str
) -> list[str]:
    sizes = Counter((view.transform.upright_width, view.transform.upright_height) for _, view in views)
    if len(sizes) < 2:
        return []
    listed = enumerated(f"{number} of {width}x{height}" for (width, height), number in sizes.most_common())
    shapes = {view.pixels.shape for _, view in views}
    sentence = f"the {noun}s have {len(sizes)} different sizes ({listed})"
    if len(shapes) > 1 and sizing.cuts_to_smallest:
        sentence += (
            f"; all are cut around their centres to {canvas[1]}x{canvas[0]}, as the model's own loader does; "
            "--size-policy fit pads them instead"
        )
    elif len(shapes) > 1:
        sentence += f"; those of another shape are padded with white to {canvas[1]}x{canvas[0]}"
    elif sizing.policy == "area" and _bent(views):
        sentence += (
            f"; all are stretched to {canvas[1]}x{canvas[0]}, the shape of the first, as the model's own "
            "loader does; --size-policy fit pads them instead"
        )
    return [sentence]


def _bent(views: Sequence[tuple[str, NetworkImage]]) -> bool:
    """Whether an image's sides are scaled by clearly different factors."""
    factors = (view.transform.scale_x / view.transform.scale_y for _, view in views)
    return any(not 1 / _BENT < factor < _BENT for factor in factors)
