"""How far found focal lengths are off."""

from __future__ import annotations

import dataclasses
from typing import ClassVar

import numpy as np

from ..scene_pair import Figures, Needs, ScenePair


@dataclasses.dataclass(frozen=True)
class FocalLength:
    """`focal_error`: median over views of |found / true - 1| of the focal length in percent, that of a view
    being the geometric mean of fx and fy; None where the truth has no intrinsics, or nothing was found."""

    needs: ClassVar[Needs] = "cameras"

    def figures(self, pair: ScenePair, workers: int = -1) -> Figures:
        if pair.found_intrinsics is None or pair.true_intrinsics is None:
            return {"focal_error": None}
        found, true = (
            np.sqrt(intrinsics[:, 0, 0] * intrinsics[:, 1, 1])
            for intrinsics in (pair.found_intrinsics, pair.true_intrinsics)
        )
        errors = np.abs(found / true - 1)[np.isfinite(found)]
        return {"focal_error": 100.0 * float(np.median(errors)) if len(errors) else None}
