"""The same five cameras in the layouts that papers' scripts prepare or benchmarks bring."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import roma
import torch

from .fixture_files import (
    VIEWS,
    cam_from_world,
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


def write_re10k_pi3(folder: Path) -> None:
    """Pi3's preparation: paths from the root, intrinsics in pixels, 4x4 cam_from_world."""
    frames = []
    for i, matrix in enumerate(square(cam_from_world())):
        write_image(folder / "images" / f"{i:04}.png", i)
        frames.append(
            {
                "idx": i,
                "filepath": f"{folder.name}/images/{i:04}.png",
                "intrinsics": [[30.0, 0.0, 16.0], [0.0, 31.0, 12.0], [0.0, 0.0, 1.0]],
                "extrinsics": matrix.tolist(),
            }
        )
    (folder / "annotations.json").write_text(json.dumps(frames))


LAYOUTS = {"scannet 90": write_scannet_90, "tum 90": write_tum_90, "realestate10k pi3": write_re10k_pi3}
