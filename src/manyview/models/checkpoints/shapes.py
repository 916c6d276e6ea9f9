"""Reading sizes off the shapes of a checkpoint's tensors."""

from __future__ import annotations

import re
from collections.abc import Mapping

from ...errors import WeightsError
from .keys import Shape
from .recognise import recognise


class Shapes:
    """Shapes by key. A key that is absent answers with the published size, if there is one, so that the
    strict comparison that follows can list everything that is missing at once."""

    def __init__(self, shapes: Mapping[str, Shape], source: str, model: str, example: str) -> None:
        self.shapes, self.source = shapes, source
        self.model, self.example = model, example

    def __contains__(self, key: str) -> bool:
        return key in self.shapes

    def __call__(self, key: str, ndim: int, published: Shape | None = None) -> Shape:
        shape = self.shapes.get(key, published)
        if shape is None:
            raise WeightsError(self.something_else(key))
        if len(shape) != ndim or 0 in shape:
            raise WeightsError(f"{self.source}: {key} has shape {list(shape)}, expected {ndim} dimensions")
        return tuple(shape)

    def something_else(self, key: str) -> str:
        """What these keys are instead, `key` being one that the model has."""
        name = recognise(self.shapes)
        if name is not None and name != self.model:
            return (
                f"{self.source} is a checkpoint of {name}, not of {self.model}: expected {key}; "
                f"use a {self.model} checkpoint such as {self.example}"
            )
        what = "not a" if name is None else "an incomplete"
        some = ", ".join(list(self.shapes)[:3])
        return f"{self.source} is {what} {self.model} checkpoint: expected {key}, found keys such as {some}"

    def count(self, pattern: str) -> int:
        """One more than the largest number `pattern` captures among the keys."""
        found = (re.match(pattern, key) for key in self.shapes)
        return max((int(match.group(1)) + 1 for match in found if match), default=0)
