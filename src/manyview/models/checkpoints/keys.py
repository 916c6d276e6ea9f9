"""Comparing the tensors a network needs with those of a checkpoint: all differences at once."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping

Shape = tuple[int, ...]

_SHOWN = 8


@dataclasses.dataclass(frozen=True)
class KeyReport:
    """Keys that stand between a checkpoint and a strict load; empty if nothing does.

    `misshapen` maps a key to (expected, found) shapes.
    """

    missing: tuple[str, ...]
    unexpected: tuple[str, ...]
    misshapen: dict[str, tuple[Shape, Shape]]

    @property
    def ok(self) -> bool:
        return not (self.missing or self.unexpected or self.misshapen)

    def sentence(self) -> str:
        """Counts and the first keys of every kind of difference."""
        parts = []
        if self.missing:
            parts.append(f"{len(self.missing)} missing ({_list(self.missing)})")
        if self.unexpected:
            parts.append(f"{len(self.unexpected)} unexpected ({_list(self.unexpected)})")
        if self.misshapen:
            shapes = [
                f"{key} expected {list(want)} found {list(got)}"
                for key, (want, got) in self.misshapen.items()
            ]
            parts.append(f"{len(shapes)} misshapen ({_list(shapes)})")
        return "; ".join(parts)


def compare_keys(expected: Mapping[str, Shape], found: Mapping[str, Shape]) -> KeyReport:
    """What a checkpoint with shapes `found` lacks, has too much, or has in another shape."""
    return KeyReport(
        missing=tuple(key for key in expected if key not in found),
        unexpected=tuple(key for key in found if key not in expected),
        misshapen={
            key: (tuple(shape), tuple(found[key]))
            for key, shape in expected.items()
            if key in found and tuple(found[key]) != tuple(shape)
        },
    )


def _list(items: Iterable[str]) -> str:
    items = list(items)
    more = f", and {len(items) - _SHOWN} more" if len(items) > _SHOWN else ""
    return ", ".join(items[:_SHOWN]) + more
