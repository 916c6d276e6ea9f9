"""A result in the world and unit of length of known cameras."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from jaxtyping import Float64

from ...geometry.align import centre_scale
from ...geometry.unproject_np import invert_rigid, nearest_rigid

Pose = Float64[np.ndarray, "3 4"]


def in_given_world(
    arrays: Mapping[str, np.ndarray], world_from_cam: Sequence[Pose | None], as_given: bool
) -> dict[str, np.ndarray]:
    """Arrays of a result in the world of known cameras `world_from_cam` (None: an unknown view).

    Args:
        arrays: Of all views, as `predicted_arrays` makes them.
        world_from_cam: The known camera of each view.
        as_given: The network's cameras are the known ones, and depth has their unit. Otherwise the first
            known view gets its known camera, and the centres of the known views decide the unit.

    Returns:
        The arrays, of which those that depend on world and unit are new.
    """
    known = [i for i, pose in enumerate(world_from_cam) if pose is not None]
    if not known:
        return dict(arrays)
    given = np.stack([np.asarray(world_from_cam[i]) for i in known])
    changed = dict(arrays)
    predicted = np.asarray(invert_rigid(arrays["cam_from_world"]))
    if as_given and len(known) == len(predicted):
        changed["cam_from_world"] = np.asarray(invert_rigid(given))
        return changed
    scale = 1.0
    if not as_given:
        source, target = (torch.tensor(poses[:, :, 3]) for poses in (given, predicted[known]))
        scale = float(centre_scale(source, target))
    predicted[:, :, 3] /= scale
    first = predicted[known[0]]
    turn = given[0, :, :3] @ first[:, :3].T
    shift = given[0, :, 3] - turn @ first[:, 3]
    moved = turn @ predicted
    moved[:, :, 3] += shift
    moved, _ = nearest_rigid(moved)  # predictions are in single precision
    changed["cam_from_world"] = np.asarray(invert_rigid(moved))
    for name in ("z_depth", "head_points"):
        if name in arrays:
            changed[name] = (arrays[name] / scale).astype(arrays[name].dtype)
    if "head_points" in changed:
        points = changed["head_points"] @ turn.T + shift
        changed["head_points"] = points.astype(arrays["head_points"].dtype)
    return changed
