"""Handlers of cases without weights: rotary positions, activations, cameras, unprojection, tracker parts."""

from __future__ import annotations

import re

import torch
from torch import Tensor

from manyview.geometry.cameras import (
    cameras_to_pose_encoding,
    invert_rigid,
    pose_encoding_to_cameras,
    quat_xyzw_from_rotation,
    rotation_from_quat_xyzw,
)
from manyview.geometry.unproject import camera_points, world_points
from manyview.models.dense_ops import activate_confidence, activate_values, embed_image_plane, image_plane
from manyview.models.pose_encoding import activate_pose
from manyview.models.rotary import rotation_for
from manyview.models.vggt.tracker.correlation import local_correlation, pyramid, sample_bilinear
from manyview.models.vggt.tracker.embeddings import flow_embedding, position_table
from tools.conformance.folder import Case
from tools.conformance.settings import numbered

_MIN_DEPTH = 1e-8  # below it upstream calls a pixel invalid


def geometry(case: Case) -> dict[str, Tensor]:
    """Unprojection with upstream's integer pixel coordinates, and rigid inverses."""
    z_depth = case.inputs["depth"][..., 0]
    cam_from_world, intrinsics = case.inputs["extrinsics"], case.inputs["intrinsics"]
    inverse = invert_rigid(cam_from_world)
    last_row = inverse.new_tensor((0.0, 0.0, 0.0, 1.0)).expand(*inverse.shape[:-2], 1, 4)
    results = {
        "inverse": torch.cat([inverse, last_row], dim=-2),
        "world_points": world_points(z_depth, cam_from_world, intrinsics, pixel_centres="integer"),
    }
    in_camera = camera_points(z_depth, intrinsics, pixel_centres="integer")
    results |= {name: in_camera[frame] for name, frame in numbered(case, "cam_points")}
    results |= {name: z_depth[frame] > _MIN_DEPTH for name, frame in numbered(case, "valid")}
    return results


def head_activations(case: Case) -> dict[str, Tensor]:
    """Outputs named `values.confidence.pred` and `.conf` on four channels; `depth.*` on two."""
    results = {"pose_activated": activate_pose(case.inputs["pose"])}
    for name in case.outputs:
        match = re.fullmatch(r"(?:depth|(\w+)\.(\w+))\.(pred|conf)", name)
        if match is None:
            continue
        values, confidence, part = match.groups()
        raw = case.inputs["x4" if values else "x2"].permute(0, 2, 3, 1)
        if part == "pred":
            results[name] = activate_values(raw[..., :-1], values or "exp")
        else:
            results[name] = activate_confidence(raw[..., -1], confidence or "expp1")
    return results


def pose_encoding(case: Case) -> dict[str, Tensor]:
    """Nine numbers to cameras and back."""
    height, width = case.config["image_size_hw"]
    encoding = case.inputs["pose_enc"]
    cam_from_world, intrinsics = pose_encoding_to_cameras(encoding, height, width)
    rotation = rotation_from_quat_xyzw(encoding[..., 3:7])
    return {
        "extrinsics": cam_from_world,
        "intrinsics": intrinsics,
        "pose_enc_back": cameras_to_pose_encoding(cam_from_world, intrinsics, height, width),
        "rot": rotation,
        "quat": quat_xyzw_from_rotation(rotation),
    }


def rotary(case: Case) -> dict[str, Tensor]:
    """2-D rotary positions, batch element by batch element since each has its own."""
    tokens, positions = case.inputs["tokens"], case.inputs["positions"]
    base = float(case.config.get("base", 100))
    turned = [
        rotation_for(yx, tokens.shape[-1], base).apply(one[None])
        for yx, one in zip(positions, tokens, strict=True)
    ]
    return {"rotated": torch.cat(turned)}


def image_plane_embedding(case: Case) -> dict[str, Tensor]:
    """The dense heads' coordinates on the image plane, and their embedding."""
    results = {}
    for index, setting in enumerate(case.config["cases"]):
        uv = image_plane(setting["h"], setting["w"], setting["aspect"], case.device)
        results[f"uv{index}"] = uv
        results[f"embed{index}"] = embed_image_plane(uv, setting["channels"], case.config["omega_0"])
    return results


def tracking(case: Case) -> dict[str, Tensor]:
    """Correlation windows, embeddings and point samples of the tracker."""
    maps, coords = case.inputs["fmaps"], case.inputs["coords"]
    targets = case.inputs["track_feats"]
    batch, frames = maps.shape[:2]
    levels = pyramid(maps.flatten(0, 1), case.config["corr_levels"])
    everywhere = coords[:, None].expand(-1, frames, -1, -1).flatten(0, 1)
    correlation = local_correlation(levels, targets.flatten(0, 1), everywhere, case.config["radius"])
    results = {
        "sampled": sample_bilinear(maps[:, 0], coords, padding="border"),
        "corr": correlation.unflatten(0, (batch, frames)),
    }
    if "flow_embed" in case.outputs:
        channels = case.outputs["flow_embed"]["shape"][-1] // 2
        results["flow_embed"] = flow_embedding(case.inputs["flows"], channels)
    if "pos_embed" in case.outputs:
        _, channels, height, width = case.outputs["pos_embed"]["shape"]
        results["pos_embed"] = position_table(channels, height, width, case.device)
    return results
