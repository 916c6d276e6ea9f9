"""One reconstruction against the exact truth of a rendered scene."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from ..errors import InputError
from ..reconstruction.result.result import Reconstruction
from .synthetic import Estimate, Numbers, Tally


def compare_with_truth(scene: Reconstruction, truth: str | Path) -> Numbers:
    """Accuracy of cameras and depth against a `truth.npz` that `synthetic.write_scene` wrote.

    The truth's depth is read at the source pixel under each network pixel's centre; padding and sky
    do not count. Raises InputError for a file of another kind or with another number of views.
    """
    try:
        with np.load(truth) as file:
            cameras, depth, valid = file["cam_from_world"], file["z_depth"], file["valid"]
    except (OSError, ValueError, KeyError) as error:
        raise InputError(f"{truth}: expected the truth.npz of a rendered scene ({error})") from error
    if len(cameras) != len(scene):
        raise InputError(f"{truth}: knows {len(cameras)} views, the reconstruction has {len(scene)}")
    sampled = [_at_network_pixels(scene, index, depth[index], valid[index]) for index in range(len(scene))]
    seen_depth = torch.from_numpy(np.stack([d for d, _ in sampled]))
    seen_valid = torch.from_numpy(np.stack([v for _, v in sampled]))
    tally = Tally()
    found = Estimate(
        torch.from_numpy(scene.cam_from_world[None].copy()).float(),
        torch.from_numpy(scene.z_depth[None].copy()),
        torch.from_numpy(scene.depth_conf[None].copy()),
    )
    tally.add(found, torch.from_numpy(cameras[None]).float(), seen_depth[None], seen_valid[None])
    return tally.numbers()


def _at_network_pixels(
    scene: Reconstruction, index: int, depth: np.ndarray, valid: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    transform = scene.views[index].transform
    rows, columns = depth.shape
    x = (np.arange(scene.width) + 0.5 - transform.offset_x) / transform.scale_x
    y = (np.arange(scene.height) + 0.5 - transform.offset_y) / transform.scale_y
    column = np.clip(x.astype(int), 0, columns - 1)
    row = np.clip(y.astype(int), 0, rows - 1)
    at = np.ix_(row, column)
    return depth[at].astype(np.float32), valid[at] & transform.content_mask()
