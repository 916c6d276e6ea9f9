"""PNG metadata that marks images rendered by ManyView, so that they are not taken for photographs."""

from __future__ import annotations

from PIL import Image
from PIL.PngImagePlugin import PngInfo

_KEY, _TEXT = "manyview", "rendered scene"


def rendered_mark() -> PngInfo:
    """What `Image.save(..., pnginfo=)` writes the mark by."""
    mark = PngInfo()
    mark.add_text(_KEY, _TEXT)
    return mark


def is_rendered(image: Image.Image) -> bool:
    """Whether an image, opened or decoded, carries the mark."""
    return image.info.get(_KEY) == _TEXT
