"""Which frames of a sequence a protocol takes."""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Sequence
from typing import Literal

import numpy as np

from ...files.spread import evenly_spread

Rule = Literal["every", "half-every", "whole-strides", "spread", "random", "shuffle", "first-then-every"]


@dataclasses.dataclass(frozen=True)
class Frames:
    """Indices into a sequence of `total` usable frames, rising but for "random".

    - "every": every `stride`-th from frame `first` (the beginning of shorter ones), at most `most` of them.
    - "half-every": as "every" with the stride at most half the sequence (FastVGGT: min(k, len // 2)).
    - "whole-strides": as "every" without the last stride where it is not complete (TTT3R's ScanNet).
    - "spread": `most` evenly spread, first and last among them.
    - "random": `most` drawn without repetition, in the order of the draw, so the first drawn is the reference
      view. One generator of numpy's legacy kind, started from `seed`, runs on through all sequences of a data
      set in the order of their names (VGGT's CO3D test, pi3's index lists).
    - "shuffle": all shuffled by Python's generator, started from `seed` for each sequence, the first `most`
      of them, sorted; shorter sequences whole (Depth Anything 3).
    - "first-then-every": the first, then every floor((n - 1) / (k - 1))-th of the rest from the second on,
      k = `most` in all (FastVGGT's ScanNet-50).

    Frames without a camera are left out before the choice, or with `count` "all" after it, as scripts do that
    choose images by their place alone; figures that need no camera then keep them.
    """

    rule: Rule = "spread"
    stride: int = 1
    most: int | None = None
    seed: int = 0
    first: int = 0
    count: Literal["posed", "all"] = "posed"

    def __post_init__(self) -> None:
        if self.stride < 1 or (self.most is not None and self.most < 1):
            raise ValueError(f"strides and numbers of frames are positive, not {self.stride} and {self.most}")
        if self.first < 0 or (self.first and self.rule != "every"):
            raise ValueError(f"a first frame is for frames 'every' and not negative, not {self.first}")
        if self.most is None and not self.by_stride:
            raise ValueError(f"frames {self.rule!r} need a number of frames")

    @property
    def by_stride(self) -> bool:
        """Whether it takes frames in steps from a first one."""
        return self.rule in ("every", "half-every", "whole-strides")

    def choose(self, total: int) -> list[int]:
        """The indices for one sequence by itself."""
        return self.choose_all([total])[0]

    def choose_all(self, totals: Sequence[int]) -> list[list[int]]:
        """The indices for each of the sequences of a data set, in the order in which they are drawn.

        A sequence shorter than `most` is taken whole and draws nothing.
        """
        generator = np.random.RandomState(self.seed)
        return [self._choose(total, generator) for total in totals]

    def _choose(self, total: int, generator: np.random.RandomState) -> list[int]:
        if self.by_stride:
            stride = min(self.stride, max(1, total // 2)) if self.rule == "half-every" else self.stride
            first = self.first if self.first < total else 0
            end = total - total % stride if self.rule == "whole-strides" else total
            return list(range(first, end or total, stride))[: self.most]
        assert self.most is not None
        if self.rule == "random" and total >= self.most:
            return generator.choice(total, self.most, replace=False).tolist()
        if total <= self.most:
            return list(range(total))
        if self.rule == "spread":
            return evenly_spread(total, self.most)
        if self.rule == "shuffle":
            shuffled = list(range(total))
            random.Random(self.seed).shuffle(shuffled)
            return sorted(shuffled[: self.most])
        stride = max(1, (total - 1) // max(1, self.most - 1))
        return [0, *range(1, total, stride)][: self.most]
