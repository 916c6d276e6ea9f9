"""Known poses of some views, in a world that suits the network."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float64


def relative_to_first_known(
    world_from_cam: Sequence[Float64[np.ndarray, "3 4"] | None],
) -> Float64[np.ndarray, "views 4 4"]:
    """world_from_cam with the first known view as the world; at least two are known.

    Pi3X takes poses relative to frame 0 and the mean distance of all others from it as the unit of length,
    masked frames included. So an unknown frame 0 gets the pose of the first known one, and other unknown ones
    a pose that leaves the mean at that of the known.
    """
    known = [i for i, pose in enumerate(world_from_cam) if pose is not None]
    full = np.tile(np.eye(4), (len(world_from_cam), 1, 1))
    for i in known:
        full[i, :3] = world_from_cam[i]
    relative = np.linalg.inv(full[known[0]]) @ full
    lengths = np.linalg.norm(relative[known[1:], :3, 3], axis=1)
    unknown = [i for i in range(1, len(full)) if world_from_cam[i] is None]
    for i in unknown:
        relative[i] = np.eye(4)
        relative[i, 0, 3] = (lengths.mean() * (len(full) - 1) - lengths.sum()) / len(unknown)
    if world_from_cam[0] is None:
        relative[0] = np.eye(4)
    return relative
