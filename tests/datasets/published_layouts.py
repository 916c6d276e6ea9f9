"""The same five cameras in the layouts that papers' scripts prepare or benchmarks bring."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import roma
import torch

from .fixture_files import (
    VIEWS,
    depth_values,
    square,
    text,
    world_from_cam,
    write_depth,
    write_image,
)


def write_scannet_90(folder: Path) -> None:
    """MonST3R's preparation of a scan, with the intrinsics of the export beside it."""
    k = np.array([[30, 0, 15.5, 0], [0, 31, 11.5, 0], [0, 0, 1, 0], [0, 0, 0, 1]])
    text(folder / "intrinsic" / "intrinsic_color.txt", k)
    text(folder / "pose_90.txt", square(world_from_cam()).reshape(VIEWS, 16))
    for i in range(VIEWS):
        write_image(folder / "color_90" / f"frame_{i:04}.jpg", i)
        write_depth(folder / "depth_90" / f"frame_{i:04}.png", depth_values(i))


def write_tum_90(folder: Path) -> None:
    """MonST3R's preparation: names stay times, lines are those of the images."""
    cameras = torch.from_numpy(world_from_cam())
    quat_xyzw = roma.rotmat_to_unitquat(cameras[:, :, :3]).numpy()
    time = 1341847980.79 + np.arange(VIEWS)[:, None] * 0.1
    text(folder / "groundtruth_90.txt", np.concatenate([time, cameras[:, :, 3].numpy(), quat_xyzw], axis=1))
    for i in range(VIEWS):
        write_image(folder / "rgb_90" / f"{time[i, 0] + 0.004:.6f}.png", i)


LAYOUTS = {"scannet 90": write_scannet_90, "tum 90": write_tum_90}
