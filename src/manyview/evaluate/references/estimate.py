"""What a reference found: cameras alone."""

from __future__ import annotations

import dataclasses

import numpy as np
from jaxtyping import Float64


@dataclasses.dataclass(frozen=True, eq=False)
class CameraEstimate:
    """Cameras in the order of the pictures, NaN for those that were given none, and what it took.

    `lasting` is False where another run might do better (it ran out of time or crashed): such an estimate
    counts but is never taken over from earlier. `notes` say what happened, for whoever reads the row.
    """

    cam_from_world: Float64[np.ndarray, "views 3 4"]
    seconds: float
    notes: tuple[str, ...] = ()
    lasting: bool = True

    @property
    def given(self) -> np.ndarray:
        """bool [views]: which views have a camera."""
        return np.isfinite(self.cam_from_world).all(axis=(1, 2))
