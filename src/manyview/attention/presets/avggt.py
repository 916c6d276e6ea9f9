"""AVGGT: early global layers see their own frame, later ones keys on a coarser grid."""

from __future__ import annotations

import dataclasses
from typing import Literal

from ...errors import UsageError
from ..dense import NoFill, OwnFrameKeys
from ..diagonal_mean import DiagonalMean
from ..global_attention import GlobalAttention
from ..grid_keys import GridKeys

_EARLY = {24: 9, 18: 10}  # published: VGGT and pi3
_EARLY_SHARE = 9 / 24


@dataclasses.dataclass(frozen=True)
class Avggt:
    """AVGGT (arXiv 2512.02541), training-free. `early` layers from the first see their own frame only.

    By default `early` is 9 of 24 layers (VGGT), 10 of 18 (pi3), and VGGT's share of another depth. See
    `GridKeys` and `DiagonalMean` for the rest; `diagonal` and `mean` both false is the plain subsample.
    """

    early: int | None = None
    stride: tuple[int, int] = (3, 3)
    edge: Literal["ceil", "floor"] = "ceil"
    phase_shift: bool = False
    diagonal: bool = True
    mean: bool = True
    gain: float = 0.0
    mean_before_positions: bool = False

    def layers(self, depth: int) -> tuple[GlobalAttention, ...]:
        early = _EARLY.get(depth, round(depth * _EARLY_SHARE)) if self.early is None else self.early
        if not 0 <= early <= depth:
            raise UsageError(f"avggt: early={early} is not a number of layers from 0 to {depth}")
        filled = self.diagonal or self.mean
        keys = GridKeys(
            self.stride,
            self.edge,
            self.phase_shift,
            project_all=filled,
            unturned=self.mean and self.mean_before_positions,
        )
        fill = (
            DiagonalMean(self.diagonal, self.mean, self.gain, self.mean_before_positions)
            if filled
            else NoFill()
        )
        frame = GlobalAttention(keys=OwnFrameKeys())
        return (frame,) * early + (GlobalAttention(keys=keys, fill=fill),) * (depth - early)
