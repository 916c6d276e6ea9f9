"""Camera paths from closed formulas, on which evo's figures were taken (`tests/data/evo_numbers.json`).

`python -m tests.evaluate.evo_paths FOLDER` writes them as TUM files, for evo's own commands.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from scipy.spatial.transform import Rotation


def waves(count: int, seed: int, size: float) -> np.ndarray:
    """[count, 3] of sines whose frequencies have no common period: as good as noise, the same everywhere."""
    k = np.arange(count)[:, None]
    axis = np.arange(3)[None]
    slow = np.sin(0.7 * k * np.sqrt(2 + axis) + seed)
    return size * (slow + np.sin(2.3 * k * np.sqrt(5 + axis) + 1.7 * seed + axis)) / 2


def handheld(count: int = 200) -> np.ndarray:
    """world_from_cam [count, 3, 4] of a loop in a room, looking about."""
    t = np.linspace(0, 2 * np.pi, count)
    centres = np.stack([2 * np.cos(t), 1.3 * np.sin(t), 0.2 * np.sin(3 * t)], -1) + waves(count, 1, 0.01)
    turns = np.stack([0.3 * np.sin(2 * t), t, 0.2 * np.cos(t)], -1) + waves(count, 2, 0.02)
    return _poses(centres, turns)


def drive(count: int = 120) -> np.ndarray:
    """A straight road with one bend: nearly all on a line."""
    s = np.arange(count, dtype=float)
    bend = np.where(s > 80, (s - 80) ** 2 / 300, 0.0)
    turns = np.stack([0 * s, np.where(s > 80, (s - 80) / 150, 0.0), 0 * s], -1)
    return _poses(np.stack([bend, 0.01 * np.sin(s), s], -1), turns + waves(count, 3, 0.002))


def estimate(truth: np.ndarray, seed: int, scale: float, drift: float, noise: float) -> np.ndarray:
    """The path in a world of its own and another scale, drifting, with noise in centres and rotations."""
    count = len(truth)
    world = Rotation.from_rotvec([0.4, -0.9, 0.3])
    share = np.linspace(0, 1, count)[:, None]
    rotation = world * Rotation.from_rotvec(waves(count, seed, noise) + drift * share * [0.1, 0.2, -0.1])
    centres = truth[:, :, 3] + waves(count, seed + 1, noise) + drift * share**2 * [1.0, -0.5, 0.3]
    centres = scale * world.apply(centres) + [1.0, 2.0, -3.0]
    matrices = (rotation * Rotation.from_matrix(truth[:, :, :3])).as_matrix()
    return np.concatenate([matrices, centres[:, :, None]], -1)


def pairs() -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """(estimate, truth) by name; ten poses are the fewest of which steps of ten frames are too long."""
    loop, road = handheld(), drive()
    return {
        "loop": (estimate(loop, 5, 1.0, 0.05, 0.01), loop),
        "loop of another scale": (estimate(loop, 7, 0.37, 0.2, 0.02), loop),
        "road": (estimate(road, 9, 12.5, 3.0, 0.05), road),
        "ten poses": (estimate(loop[::20], 11, 2.0, 0.1, 0.05), loop[::20]),
    }


def _poses(centres: np.ndarray, turns: np.ndarray) -> np.ndarray:
    return np.concatenate([Rotation.from_rotvec(turns).as_matrix(), centres[:, :, None]], -1)


def write_tum(path: Path, world_from_cam: np.ndarray) -> None:
    """timestamp (the frame number), centre, quaternion x y z w; every digit."""
    quaternions = Rotation.from_matrix(world_from_cam[:, :, :3]).as_quat()
    rows = np.concatenate([np.arange(len(world_from_cam))[:, None], world_from_cam[:, :, 3], quaternions], 1)
    np.savetxt(path, rows, fmt="%.17g")


if __name__ == "__main__":
    for name, (found, truth) in pairs().items():
        stem = name.replace(" ", "_")
        write_tum(Path(sys.argv[1]) / f"{stem}.found.txt", found)
        write_tum(Path(sys.argv[1]) / f"{stem}.truth.txt", truth)
