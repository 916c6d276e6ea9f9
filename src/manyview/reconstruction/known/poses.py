"""Known poses of some views, in a world that suits the network."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float64


def in_first_known(
    poses: Sequence[Float64[np.ndarray, "3 4"] | None],
) -> Float64[np.ndarray, "views 4 4"]:
    """world_from_cam with the first known view as the world; at least two are known.

    Pi3X looks at poses from frame 0 and takes the mean distance of all others for the unit of length, also of
    those that are masked. So an unknown frame 0 is put where the first known one is, and other unknown ones
    where they leave the mean at that of the known.
    """
    known = [i for i, pose in enumerate(poses) if pose is not None]
    full = np.tile(np.eye(4), (len(poses), 1, 1))
    for i in known:
        full[i, :3] = poses[i]
    relative = np.linalg.inv(full[known[0]]) @ full
    lengths = np.linalg.norm(relative[known[1:], :3, 3], axis=1)
    unknown = [i for i in range(1, len(poses)) if poses[i] is None]
    for i in unknown:
        relative[i] = np.eye(4)
        relative[i, 0, 3] = (lengths.mean() * (len(poses) - 1) - lengths.sum()) / len(unknown)
    if poses[0] is None:
        relative[0] = np.eye(4)
    return relative
