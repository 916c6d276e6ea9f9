"""Handlers of Depth Anything 3's dense heads and of the embedding of places on the image plane."""

from __future__ import annotations

import torch
from torch import Tensor

from manyview.geometry.cameras import invert_rigid
from manyview.models.da3.dual_head import DualHead
from manyview.models.da3.ray_cameras import cameras_from_rays
from manyview.models.da3.sky_head import SkyHead
from manyview.models.dense_head import FeatureTapMaps
from manyview.models.dense_ops import embed_image_plane, image_plane
from manyview.models.feature_taps import run_dense_head
from manyview.models.part_configs import DenseHeadConfig
from manyview.models.run_options import RunOptions
from tools.conformance.folder import Case
from tools.conformance.settings import described_factor, patch_grid, seeded_module


def image_plane_embedding(case: Case) -> dict[str, Tensor]:
    """(u, v) of each cell and their embedding, whose angles are float32."""
    results = {}
    for rows, columns, height, width, channels in case.config["items_hw_HW_channels"]:
        uv = image_plane(rows, columns, width / height, case.device)
        results[f"uv_{rows}x{columns}"] = uv
        embedded = embed_image_plane(uv, channels, case.config["omega_base"], torch.float32)
        results[f"embed_{rows}x{columns}"] = embedded
    return results


def dual_head(case: Case) -> dict[str, Tensor]:
    """Depth and rays, each with its confidence."""
    head = seeded_module(case, lambda: DualHead(case.config["dim_in"], _sizes(case)))
    names = ("depth", "depth_conf", "ray", "ray_conf")
    results = dict(zip(names, _run(case, head, rays=True), strict=True))
    for small in ("depth_conf_small", "ray_conf_small"):
        outputs = _run(case, head, described_factor(case, small, 0.003), rays=True)
        results[small] = dict(zip(names, outputs, strict=True))[small.removesuffix("_small")]
    return results | {"depth": results["depth"][..., 0]}


def sky_head(case: Case) -> dict[str, Tensor]:
    """Depth and the sky score."""
    head = seeded_module(case, lambda: SkyHead(case.config["dim_in"], _sizes(case)))
    depth, sky = _run(case, head)
    return {"depth": depth[..., 0], "sky": sky}


def ray_cameras(case: Case) -> dict[str, Tensor]:
    """Cameras from rays; also as camera to world, and intrinsics of an image 2 wide and 2 high."""
    height, width = case.config["image_hw"]
    rays, confidence, samples = (case.inputs[name] for name in ("ray", "ray_conf", "sample_idx"))
    cameras, intrinsics = cameras_from_rays(rays, confidence, (height, width), samples)
    inverse = invert_rigid(cameras)
    last_row = inverse.new_tensor((0.0, 0.0, 0.0, 1.0)).expand(*inverse.shape[:-2], 1, 4)
    unit = 2 / intrinsics.new_tensor((width, height))
    return {
        "c2w": torch.cat([inverse, last_row], dim=-2),
        "extrinsics": cameras,
        "intrinsics": intrinsics,
        "focal": intrinsics.diagonal(dim1=-2, dim2=-1)[..., :2] * unit,
        "principal": intrinsics[..., :2, 2] * unit,
    }


def _sizes(case: Case) -> DenseHeadConfig:
    return DenseHeadConfig(case.config["features"], tuple(case.config["out_channels"]))


def _run(case: Case, head: FeatureTapMaps, factor: float = 1.0, **wanted: bool) -> tuple[Tensor, ...]:
    taps = [case.inputs[f"tokens{index}"] * factor for index in range(4)]
    height, width = case.config["image_hw"]
    batch, frames, patches, _ = taps[0].shape
    projected = [head.project(tap.flatten(0, 1), index) for index, tap in enumerate(taps)]
    shape = (batch, frames, 3, height, width)
    options, grid = RunOptions(head_frames_per_chunk=8), patch_grid(patches, (height, width))
    return run_dense_head(head, projected, grid, shape, options, None, **wanted)
