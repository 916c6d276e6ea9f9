"""The same five cameras written by hand in every format that `posed_sets` reads, with pictures and depth."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import roma
import torch
from PIL import Image

VIEWS = 5


def world_from_cam() -> np.ndarray:
    """Five cameras that differ from their own inverses in every number, first one not at the origin."""
    axes = torch.tensor(
        [[0.3, -0.2, 0.1], [0.5, 0.1, -0.4], [-0.6, 0.7, 0.2], [0.1, 1.1, 0.0], [1.5, 0.2, 0.9]]
    )
    rotation = roma.rotvec_to_rotmat(axes.double()).numpy()
    centres = np.array([[1, 2, 3], [1.5, 2, 3], [2, 2.5, 3], [2, 3, 4.5], [0, -1, 2]], dtype=float)
    return np.concatenate([rotation, centres[:, :, None]], axis=-1)


def picture(path: Path, index: int, size: tuple[int, int] = (32, 24)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(index).integers(0, 255, (6, 8, 3), dtype=np.uint8)
    Image.fromarray(noise).resize(size).save(path)


def depth_picture(path: Path, values: np.ndarray) -> None:
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


def write_plain(folder: Path) -> None:
    text(folder / "poses.txt", square(world_from_cam()).reshape(VIEWS, 16))
    text(folder / "intrinsics.txt", np.array([[30, 0, 15.5], [0, 31, 11.5], [0, 0, 1]]))
    for i in range(VIEWS):
        picture(folder / "color" / f"{i}.png", i)
        depth_picture(folder / "depth" / f"{i}.png", depth_values(i))


def write_seven_scenes(folder: Path) -> None:
    for i, matrix in enumerate(square(world_from_cam())):
        picture(folder / f"frame-{i:06}.color.png", i)
        text(folder / f"frame-{i:06}.pose.txt", matrix)
        depth_picture(folder / f"frame-{i:06}.depth.png", depth_values(i))


def write_kitti(folder: Path) -> None:
    """The official layout: `folder` is a sequence, its poses are two levels up."""
    text(folder.parent.parent / "poses" / f"{folder.name}.txt", world_from_cam().reshape(VIEWS, 12))
    calib = "P0: 30 0 15.5 0 0 31 11.5 0 0 0 1 0\nP2: 30 0 15.5 6 0 31 11.5 3.1 0 0 1 0\nTr: 1 0\n"
    for i in range(VIEWS):
        picture(folder / "image_0" / f"{i:06}.png", i)
    (folder / "calib.txt").write_text(calib)


def write_tum(folder: Path) -> None:
    cameras = torch.from_numpy(world_from_cam())
    quat_xyzw = roma.rotmat_to_unitquat(cameras[:, :, :3])
    time = 1341847980.79 + np.arange(VIEWS)[:, None] * 0.5
    # Between each camera and the next a line that no picture is near to.
    rows = np.concatenate([time, cameras[:, :, 3].numpy(), quat_xyzw.numpy()], axis=1)
    far = np.concatenate([time + 0.25, np.tile([9.0, 9, 9, 0, 0, 0, 1], (VIEWS, 1))], axis=1)
    text(folder / "groundtruth.txt", np.concatenate([far, rows]))
    for i in range(VIEWS):
        picture(folder / "rgb" / f"{time[i, 0] + 0.004:.6f}.png", i)
        depth_picture(folder / "depth" / f"{time[i, 0] - 0.006:.6f}.png", 5 * depth_values(i))


def write_strecha(folder: Path) -> None:
    for i, matrix in enumerate(world_from_cam()):
        picture(folder / "images" / f"{i:04}.jpg", i)
        # For pictures of twice the size that lie in the folder.
        rows = [[60, 0, 31.5], [0, 62, 23.5], [0, 0, 1], [0, 0, 0], *matrix[:, :3], matrix[:, 3], [64, 48]]
        path = folder / "gt_dense_cameras" / f"{i:04}.jpg.camera"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("\n".join(" ".join(f"{v:.17g}" for v in row) + " " for row in rows) + "\n")


WRITERS = {
    "plain": write_plain,
    "7-scenes": write_seven_scenes,
    "kitti": write_kitti,
    "tum": write_tum,
    "strecha": write_strecha,
}
