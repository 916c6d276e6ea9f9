"""Counter-based random numbers: a draw depends on (scene seed, name, index) and on nothing else."""

from __future__ import annotations

import zlib
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Int

from ..errors import UsageError

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_MIX_1 = np.uint64(0xBF58476D1CE4E5B9)
_MIX_2 = np.uint64(0x94D049BB133111EB)


class Draws:
    """Named random numbers for a batch of scenes.

    Every draw has its own name, so that adding a draw leaves all others as they were, and every scene
    its own seed, so that a scene is the same whatever the batch it is drawn in. The generator is the
    finaliser of SplitMix64 (Steele et al. 2014) over a counter.
    """

    def __init__(self, seeds: Sequence[int]) -> None:
        for seed in seeds:
            if isinstance(seed, bool) or not isinstance(seed, (int, np.integer)) or not 0 <= seed < 2**63:
                raise UsageError(f"Scene seeds are whole numbers from 0 to 2**63 - 1, but one is {seed!r}.")
        self._seeds = _mix(np.array([int(seed) for seed in seeds], dtype=np.uint64)[:, None])

    def __len__(self) -> int:
        return len(self._seeds)

    def uniform(
        self, name: str, *shape: int, low: float | int = 0.0, high: float | int = 1.0
    ) -> Float[np.ndarray, "scenes ..."]:
        """Numbers in [low, high), float64 [scenes, *shape]."""
        count = int(np.prod(shape, dtype=np.int64))
        stream = np.array([zlib.crc32(name.encode())], dtype=np.uint64) * _MIX_2
        counter = np.arange(1, count + 1, dtype=np.uint64) * _GOLDEN
        bits = _mix(_mix(self._seeds ^ stream) + counter)
        unit = (bits >> np.uint64(11)).astype(np.float64) * 2.0**-53
        return (low + (high - low) * unit).reshape(len(self), *shape)

    def normal(self, name: str, *shape: int) -> Float[np.ndarray, "scenes ..."]:
        """Standard normal numbers, float64 [scenes, *shape] (Box-Muller)."""
        unit = self.uniform(name, *shape, 2)
        radius = np.sqrt(-2.0 * np.log1p(-unit[..., 0]))
        return radius * np.cos(2.0 * np.pi * unit[..., 1])

    def integers(self, name: str, *shape: int, low: int, high: int) -> Int[np.ndarray, "scenes ..."]:
        """Whole numbers in [low, high], both ends included, int64 [scenes, *shape]."""
        return np.floor(self.uniform(name, *shape, low=low, high=high + 1)).astype(np.int64)


def _mix(bits: np.ndarray) -> np.ndarray:
    bits = bits + _GOLDEN
    bits = (bits ^ (bits >> np.uint64(30))) * _MIX_1
    bits = (bits ^ (bits >> np.uint64(27))) * _MIX_2
    return bits ^ (bits >> np.uint64(31))
