"""Warnings of weights that are used on images unlike those they were trained on."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable

from PIL import Image

from ...files.rendered import is_rendered
from ...files.writing import format_bytes
from ...models.auto import PREFERRED
from ...models.checkpoints.named import NamedModel
from ...models.families import find_model
from ...models.info import ModelInfo
from ..inputs.decode import ImageReadError, open_header
from ..inputs.views import ViewRecord

_BETTER = (PREFERRED, "vggt-1b")


def model_warnings(info: ModelInfo | None, views: Iterable[ViewRecord]) -> tuple[str, ...]:
    """What is to be said above all else of a result: that its weights never saw such images, and what did.

    Args:
        info: Provenance of the weights.
        views: The views of the result; nothing is said if ManyView rendered all of them.
    """
    if info is None or info.trained_on is None or all(map(_rendered, views)):
        return ()
    rows = [row for row in map(find_model, _BETTER) if row is not None]
    return (
        f"{info.name} was trained on {info.trained_on} and on nothing else: on these images its cameras and "
        f"depth are rough at best; better results come with {' or '.join(map(_named, rows))}",
    )


def _named(row: NamedModel) -> str:
    """The option that chooses a model, its licence, and how large its download is."""
    allowed = "" if row.commercial_use else ", no commercial use"
    size = "" if row.size_bytes is None else f", {format_bytes(row.size_bytes)}"
    return f"--model {row.name} ({row.licence}{allowed}{size})"


def _rendered(view: ViewRecord) -> bool:
    if view.image is not None:
        return isinstance(view.image, Image.Image) and is_rendered(view.image)
    if view.video_frame is None:
        with contextlib.suppress(ImageReadError, OSError), open_header(view.source_path) as image:
            return is_rendered(image)
    return False
