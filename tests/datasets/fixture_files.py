"""Five cameras, and the small files that miniatures of data sets are made of."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image
from scipy.spatial.transform import Rotation

VIEWS = 5


def world_from_cam() -> np.ndarray:
    """Five cameras that differ from their own inverses in every number, first one not at the origin."""
    axes = [[0.3, -0.2, 0.1], [0.5, 0.1, -0.4], [-0.6, 0.7, 0.2], [0.1, 1.1, 0.0], [1.5, 0.2, 0.9]]
    rotation = Rotation.from_rotvec(axes).as_matrix()
    centres = np.array([[1, 2, 3], [1.5, 2, 3], [2, 2.5, 3], [2, 3, 4.5], [0, -1, 2]], dtype=float)
    return np.concatenate([rotation, centres[:, :, None]], axis=-1)


def write_image(path: Path, index: int, size: tuple[int, int] = (32, 24)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(index).integers(0, 255, (6, 8, 3), dtype=np.uint8)
    Image.fromarray(noise).resize(size).save(path)


def write_depth(path: Path, values: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(values.astype(np.uint16)).save(path)


def depth_values(index: int) -> np.ndarray:
    """24x32 raw values, 0 in the first row and 65535 in the second."""
    values = np.full((24, 32), 1000 * (index + 1))
    values[0], values[1] = 0, 65535
    return values


def text(path: Path, rows: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(" ".join(f"{v:.17g}" for v in row) for row in np.atleast_2d(rows)) + "\n")


def square(rows: np.ndarray) -> np.ndarray:
    return np.concatenate([rows, np.broadcast_to([[[0, 0, 0, 1]]], (len(rows), 1, 4))], axis=1)


def cam_from_world() -> np.ndarray:
    rotation_t = world_from_cam()[:, :, :3].transpose(0, 2, 1)
    return np.concatenate([rotation_t, -rotation_t @ world_from_cam()[:, :, 3:]], -1)


def colmap_text(folder: Path, camera: str, names: list[str]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "cameras.txt").write_text(f"# a comment\n{camera}\n")
    quats = Rotation.from_matrix(cam_from_world()[:, :, :3]).as_quat()
    lines = ["# a comment"]
    for i, (q, matrix) in enumerate(zip(quats, cam_from_world())):
        values = " ".join(f"{v:.17g}" for v in (q[3], q[0], q[1], q[2], *matrix[:, 3]))
        lines += [f"{i + 1} {values} 1 {names[i]}", "" if i % 2 else "1.5 2.5 -1 3.5 4.5 7"]
    (folder / "images.txt").write_text("\n".join(lines) + "\n")
