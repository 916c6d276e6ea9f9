"""Bonn RGB-D Dynamic (Palazzolo et al., IROS 2019): TUM's files with a track of the markers.

The motion capture gives a body T in axes of its own (x mirrored, y and z exchanged: T_ros), and the camera
sits on it as T_m: world_from_cam = T_ros T T_ros T_m (the dataset's page). T_m as published has a scale of
1.06 in its rotation, which is taken out. Depth is TUM's, 5000 a metre. Intrinsics are the published ones
without their slight distortion. Protocols that count every image (video depth of MonST3R, CUT3R, pi3) pair
the n-th image with the n-th depth map, as their preparation does; all else pairs them by time. That
preparation (`rgb_110/` and `depth_110/`, images 30 to 139) is read where the original is not there; its
`groundtruth_110.txt` are lines 30 to 139 of the track, not those of the images, so it has no cameras.
"""

from __future__ import annotations

import dataclasses
from functools import partial
from pathlib import Path

import numpy as np

from ..geometry.unproject_np import invert_rigid
from . import tum
from .dataset import Dataset
from .posed_set import PosedSet

_T_ROS = np.array([[-1.0, 0, 0], [0, 0, 1], [0, 1, 0]])
_T_M = np.array(
    [
        [1.0157, 0.1828, -0.2389, 0.0113],
        [0.0009, -0.8431, -0.6413, -0.0098],
        [-0.3009, 0.6147, -0.8085, 0.0111],
    ]
)
# Pixel centres at +0.5; the page has them at whole numbers.
_INTRINSICS = np.array([[542.822841, 0, 316.093520], [0, 542.576870, 238.256098], [0, 0, 1]])


_PREPARED, _FIRST = "_110", 30


def fits(folder: Path) -> bool:
    """Nothing but its name distinguishes the folder from TUM's."""
    cameras = tum.fits(folder) or (folder / f"groundtruth{_PREPARED}.txt").is_file()
    return folder.resolve().name.startswith("rgbd_bonn") and cameras


def read(folder: Path, depth_by_index: bool = False) -> PosedSet:
    intrinsics = _INTRINSICS[None]
    if tum.is_prepared(folder, _PREPARED):
        found = tum.read_part(folder, _PREPARED, depth_by_index=True)
        return dataclasses.replace(
            found,
            positions=tuple(range(_FIRST, _FIRST + len(found))),
            cam_from_world=np.full_like(found.cam_from_world, np.nan),
            intrinsics=np.repeat(intrinsics, len(found), 0),
        )
    found = tum.read_part(folder, depth_by_index=depth_by_index)
    body = invert_rigid(found.cam_from_world)
    u, _, vh = np.linalg.svd(_T_M[:, :3])
    rotation = _T_ROS @ body[:, :, :3] @ _T_ROS
    centres = body[:, :, 3] @ _T_ROS.T + rotation @ _T_M[:, 3]
    world_from_cam = np.concatenate([rotation @ (u @ vh), centres[:, :, None]], axis=-1)
    return dataclasses.replace(
        found,
        cam_from_world=invert_rigid(world_from_cam),
        intrinsics=np.repeat(intrinsics, len(found), 0),
    )


DATASET = Dataset(
    fits,
    read,
    places=(("", "rgbd_bonn_*"), ("rgbd_bonn_dataset", "rgbd_bonn_*")),
    layout="rgbd_bonn_balloon2/groundtruth.txt with rgb/, rgb.txt, depth/ and depth.txt",
    source="University of Bonn, RGB-D Dynamic Dataset",
    splits={"five": "balloon2 crowd2 crowd3 person_tracking2 synchronous"},
    scene_prefix="rgbd_bonn_",
    every_image_reader=partial(read, depth_by_index=True),
)
