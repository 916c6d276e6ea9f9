"""Which frames of a sequence a protocol takes."""

from __future__ import annotations

import dataclasses
import zlib
from typing import Literal

import numpy as np

from ...files.spread import evenly_spread

Rule = Literal["every", "half-every", "spread", "random", "first-then-every"]


@dataclasses.dataclass(frozen=True)
class Frames:
    """Indices into a sequence of `total` usable frames, rising.

    - "every": every `stride`-th from frame `first` (the beginning of shorter ones), at most `most` of them.
    - "half-every": as "every" with the stride at most half the sequence (FastVGGT: min(k, len // 2)).
    - "spread": `most` evenly spread, first and last among them.
    - "random": `most` drawn without repetition. The papers draw all sequences from one generator, so their
      frames depend on the order in which sequences are visited; here each sequence has its own generator from
      `seed` and its name, so that a part of a dataset gives the frames of the whole.
    - "first-then-every": the first, then every floor((n - 1) / (k - 1))-th of the rest, k = `most` in all
      (ScanNet-50).

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
        if self.most is None and self.rule in ("spread", "random", "first-then-every"):
            raise ValueError(f"frames {self.rule!r} need a number of frames")

    def choose(self, total: int, name: str = "") -> list[int]:
        """The indices for a sequence called `name`."""
        if self.rule in ("every", "half-every"):
            stride = min(self.stride, max(1, total // 2)) if self.rule == "half-every" else self.stride
            first = self.first if self.first < total else 0
            return list(range(first, total, stride))[: self.most]
        assert self.most is not None
        if total <= self.most:
            return list(range(total))
        if self.rule == "spread":
            return evenly_spread(total, self.most)
        if self.rule == "random":
            generator = np.random.default_rng([self.seed, zlib.crc32(name.encode())])
            return np.sort(generator.choice(total, self.most, replace=False)).tolist()
        stride = max(1, (total - 1) // max(1, self.most - 1))
        return [0, *range(stride, total, stride)][: self.most]
