"""Cameras: rigid transforms, pinhole intrinsics, and the nine numbers VGGT predicts for each of them.

OpenCV axes (x right, y down, z forward). `cam_from_world` is [R | t], shape (..., 3, 4). Intrinsics
are in pixels with pixel centres at +0.5, so an uncropped image has its principal point at (W/2, H/2).
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor


def rotation_from_quat_xyzw(quat_xyzw: Float[Tensor, "*batch 4"]) -> Float[Tensor, "*batch 3 3"]:
    """Rotation matrix of a quaternion of any non-zero length, scalar last."""
    x, y, z, w = (quat_xyzw / quat_xyzw.norm(dim=-1, keepdim=True)).unbind(-1)
    xx, yy, zz, ww = x * x, y * y, z * z, w * w
    xy, xz, yz, xw, yw, zw = x * y, x * z, y * z, x * w, y * w, z * w
    rows = [xx - yy - zz + ww, 2 * (xy - zw), 2 * (xz + yw)]
    rows += [2 * (xy + zw), -xx + yy - zz + ww, 2 * (yz - xw)]
    rows += [2 * (xz - yw), 2 * (yz + xw), -xx - yy + zz + ww]
    return torch.stack(rows, dim=-1).reshape(*quat_xyzw.shape[:-1], 3, 3)


def quat_xyzw_from_rotation(rotation: Float[Tensor, "*batch 3 3"]) -> Float[Tensor, "*batch 4"]:
    """Unit quaternion of a rotation, scalar last and not negative.

    Markley, "Unit quaternion from rotation matrix" (2008): of the four rows of 4 q q^T, the one of the
    largest component, normalized.
    """
    (r00, r01, r02), (r10, r11, r12), (r20, r21, r22) = (row.unbind(-1) for row in rotation.unbind(-2))
    xy, xz, yz = r10 + r01, r20 + r02, r21 + r12
    xw, yw, zw = r21 - r12, r02 - r20, r10 - r01
    rows = [1 + r00 - r11 - r22, xy, xz, xw]
    rows += [xy, 1 + r11 - r22 - r00, yz, yw]
    rows += [xz, yz, 1 + r22 - r00 - r11, zw]
    rows += [xw, yw, zw, 1 + r00 + r11 + r22]
    outer = torch.stack(rows, dim=-1).unflatten(-1, (4, 4))
    largest = outer.diagonal(dim1=-2, dim2=-1).argmax(dim=-1)[..., None, None].expand(*outer.shape[:-2], 1, 4)
    quat = outer.gather(-2, largest).squeeze(-2)
    quat = quat / quat.norm(dim=-1, keepdim=True)
    return torch.where(quat[..., 3:] < 0, -quat, quat)


def invert_rigid(target_from_source: Float[Tensor, "*batch 3 4"]) -> Float[Tensor, "*batch 3 4"]:
    """`source_from_target` of a rigid transform, in closed form."""
    rotation_t = target_from_source[..., :3].transpose(-1, -2)
    translation = -(rotation_t @ target_from_source[..., 3:])
    return torch.cat([rotation_t, translation], dim=-1)


def compose_rigid(
    c_from_b: Float[Tensor, "*#batch 3 4"], b_from_a: Float[Tensor, "*#batch 3 4"]
) -> Float[Tensor, "... 3 4"]:
    """`c_from_a`: first `b_from_a`, then `c_from_b`."""
    rotation = c_from_b[..., :3] @ b_from_a[..., :3]
    translation = c_from_b[..., :3] @ b_from_a[..., 3:] + c_from_b[..., 3:]
    return torch.cat([rotation, translation], dim=-1)


def relative_to_first(cam_from_world: Float[Tensor, "*batch views 3 4"]) -> Float[Tensor, "*batch views 3 4"]:
    """The same cameras in the frame of the first one: view 0 becomes [I | 0]."""
    world_from_first = invert_rigid(cam_from_world[..., :1, :, :])
    return compose_rigid(cam_from_world, world_from_first.expand_as(cam_from_world))


def relative_pairs(cam_from_world: Float[Tensor, "*batch views 3 4"]) -> Float[Tensor, "*batch pairs 3 4"]:
    """`i_from_j` of all pairs of views i < j, in float64."""
    cameras = cam_from_world.double()
    i, j = torch.triu_indices(cameras.shape[-3], cameras.shape[-3], offset=1)
    return compose_rigid(cameras[..., i, :, :], invert_rigid(cameras[..., j, :, :]))


def pose_encoding_to_cameras(
    pose_encoding: Float[Tensor, "*batch 9"],
    height: int,
    width: int,
    smallest_tangent: float | None = None,
) -> tuple[Float[Tensor, "*batch 3 4"], Float[Tensor, "*batch 3 3"]]:
    """Decode VGGT's nine numbers a camera (VGGT, section 3.1).

    Args:
        pose_encoding: Translation (3), quaternion xyzw (4, of any length), vertical then horizontal field of
            view in radians.
        height: Of the image, in pixels.
        width: Of the image, in pixels.
        smallest_tangent: Of half a field of view (None: as it is).

    Returns:
        (cam_from_world, intrinsics in pixels with the principal point at the image centre).
    """
    translation, quat, fov = pose_encoding.split([3, 4, 2], dim=-1)
    cam_from_world = torch.cat([rotation_from_quat_xyzw(quat), translation[..., None]], dim=-1)
    tangent = torch.tan(fov / 2.0)
    tangent = tangent if smallest_tangent is None else tangent.clamp(min=smallest_tangent)
    focal_y, focal_x = (height / 2.0) / tangent[..., 0], (width / 2.0) / tangent[..., 1]
    zero, one = torch.zeros_like(focal_x), torch.ones_like(focal_x)
    rows = [focal_x, zero, one * (width / 2), zero, focal_y, one * (height / 2), zero, zero, one]
    return cam_from_world, torch.stack(rows, dim=-1).unflatten(-1, (3, 3))


def cameras_to_pose_encoding(
    cam_from_world: Float[Tensor, "*batch 3 4"],
    intrinsics: Float[Tensor, "*batch 3 3"],
    height: int,
    width: int,
) -> Float[Tensor, "*batch 9"]:
    """Inverse of `pose_encoding_to_cameras`; the principal point is not represented."""
    quat = quat_xyzw_from_rotation(cam_from_world[..., :3])
    fov_h = 2 * torch.atan((height / 2) / intrinsics[..., 1, 1])
    fov_w = 2 * torch.atan((width / 2) / intrinsics[..., 0, 0])
    return torch.cat([cam_from_world[..., 3], quat, fov_h[..., None], fov_w[..., None]], dim=-1)
