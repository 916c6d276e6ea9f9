"""Predictions of a network for a result: which views are valid, and the tensors by the array they become."""

from __future__ import annotations

import math

import torch
from jaxtyping import Bool
from torch import Tensor

from ...errors import ManyViewError
from ...models.network import Predictions

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
        valid &= result.z_depth[0].isfinite().flatten(1).any(-1)
    return valid.cpu()


def invalid_view_notes(
    valid: Bool[Tensor, " views"], names: tuple[str, ...], precision: str
) -> tuple[str, ...]:
    """Notes about views that are left out. Raises ManyViewError if none would be left."""
    bad = [name for name, kept in zip(names, valid.tolist(), strict=True) if not kept]
    if not bad:
        return ()
    remedy = "try --precision fp32" if precision != "fp32" else "the weights do not suit these images"
    if len(bad) == len(names):
        raise ManyViewError(
            f"the model gave no camera or depth that is finite for any of {len(names)} views in {precision}; "
            f"{remedy}"
        )
    shown = ", ".join(bad[:5]) + (f" and {len(bad) - 5} more" if len(bad) > 5 else "")
    return (f"{len(bad)} of {len(names)} views left out, the model gave them no camera: {shown}; {remedy}",)


def select_views(tensor: Tensor, valid: Bool[Tensor, " views"]) -> Tensor:
    """The valid views of an output [1, views, ...], on the CPU; not copied if all are."""
    tensor = tensor[0].cpu()
    return tensor if bool(valid.all()) else tensor[valid]


def predicted_arrays(predictions: Predictions) -> dict[str, Tensor]:
    """The tensors [1, views, ...] of `predictions` by the name of the array that stores them."""
    tensors = {
        "cam_from_world": predictions.cam_from_world,
        "intrinsics": predictions.intrinsics,
        "z_depth": predictions.z_depth,
        "depth_conf": predictions.depth_conf,
        "head_points": predictions.world_points,
        "head_points_conf": predictions.world_points_conf,
    }
    return {name: tensor for name, tensor in tensors.items() if tensor is not None}
