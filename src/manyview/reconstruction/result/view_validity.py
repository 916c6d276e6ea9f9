"""Predictions of a network for a result: which views are valid, and the tensors by the array they become."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Bool
from torch import Tensor

from ...errors import ManyViewError
from ...files.naming import enumerated
from ...models.network import Predictions
from ...models.transfer import to_host
from ..inputs.views import ViewRecord
from .arrays import ARRAY_FIELDS

_SPARSE = 16  # of so many pixels by as many one tells of most views that they have depth
# Fields of view outside of this are no pinhole camera's.
_FOV_LIMITS = (math.radians(0.5), math.radians(179.0))


def valid_views(result: Predictions) -> Bool[Tensor, " views"]:
    """True where the camera is finite with a sensible field of view, and some pixel has finite depth."""
    low, high = _FOV_LIMITS
    if result.pose_encoding_list is not None:
        encoding = result.pose_encoding[0]
        fov = encoding[:, 7:]
        valid = encoding.isfinite().all(-1) & (encoding[:, 3:7].norm(dim=-1) > 1e-6)
    else:
        focal = result.intrinsics[0].diagonal(dim1=-2, dim2=-1)[:, :2]
        fov = 2 * torch.atan(focal.new_tensor([result.width, result.height]) / (2 * focal))
        valid = result.cam_from_world[0].isfinite().flatten(1).all(-1) & focal.isfinite().all(-1)
    valid &= ((fov > low) & (fov < high)).all(-1)
    if result.z_depth is not None:
        finite = result.z_depth[0, :, ::_SPARSE, ::_SPARSE].isfinite().flatten(1).any(-1)
        rest = (~finite).nonzero()[:, 0]  # nothing finite in what tells of most views at once
        finite[rest] = result.z_depth[0, rest].isfinite().flatten(1).any(-1)
        valid &= finite.to(valid.device)
    return valid.cpu()


def keep_valid(
    records: Sequence[ViewRecord], valid: Bool[Tensor, " views"], precision: str
) -> tuple[tuple[ViewRecord, ...], tuple[str, ...]]:
    """Records of the valid views, and notes about the others. Raises ManyViewError if no view is valid."""
    kept = tuple(itertools.compress(records, valid.tolist()))
    if len(kept) == len(records):
        return kept, ()
    remedy = "try --precision fp32" if precision != "fp32" else "the weights do not suit these images"
    count = len(records)
    if not kept:
        raise ManyViewError(
            f"the model gave no camera or depth that is finite for any of {count} views in {precision}; "
            f"{remedy}"
        )
    shown = enumerated(itertools.compress((r.name for r in records), (~valid).tolist()), 5)
    left_out = f"{count - len(kept)} of {count} views left out, the model gave them no camera"
    return kept, (f"{left_out}: {shown}; {remedy}",)


def predicted_arrays(predictions: Predictions) -> dict[str, np.ndarray]:
    """The arrays of a result [views, ...] from `predictions`, copied only for another type or device."""
    tensors = {
        "cam_from_world": predictions.cam_from_world,
        "intrinsics": predictions.intrinsics,
        "z_depth": predictions.z_depth,
        "depth_conf": predictions.depth_conf,
        "head_points": predictions.world_points,
        "head_points_conf": predictions.world_points_conf,
        "sky": predictions.sky,
    }
    # Converted on the CPU: Apple's GPU has no float64.
    return {
        name: to_host(tensor[0]).numpy().astype(ARRAY_FIELDS[name][0], copy=False)
        for name, tensor in tensors.items()
        if tensor is not None
    }
