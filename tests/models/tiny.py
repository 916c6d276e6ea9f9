"""A VGGT small enough for tests, with weights large enough that every part matters."""

from __future__ import annotations

import torch

from manyview.models.part_configs import DenseHeadConfig, EncoderConfig
from manyview.models.vggt.config import CameraHeadConfig, VGGTConfig
from manyview.models.vggt.model import VGGT

TINY = VGGTConfig(
    dim=32,
    depth=4,
    num_heads=2,
    patch_size=14,
    registers=4,
    image_size=56,
    taps=(0, 1, 2, 3),
    encoder=EncoderConfig(depth=1, num_heads=2, native_grid=4),
    camera_head=CameraHeadConfig(depth=1, num_heads=2),
    depth_head=DenseHeadConfig(16, (8, 8, 16, 16)),
    point_head=DenseHeadConfig(16, (8, 8, 16, 16)),
    track_head=None,
)

FAST_SIZE = 112
"""Pixels of the longer side for tests of the bundled weights, whose own size may be several times slower."""


def tiny_vggt(dtype: torch.dtype = torch.float32, config: VGGTConfig = TINY) -> VGGT:
    """Random weights of order one over the square root of the fan-in; deterministic."""
    generator = torch.Generator().manual_seed(1)
    model = VGGT(config).to(dtype).eval()
    for name, parameter in model.named_parameters():
        noise = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
        if name.endswith("gamma"):
            value = 0.3 + 0.05 * noise
        elif parameter.ndim >= 2 and name.endswith("weight"):
            value = noise / parameter[0].numel() ** 0.5
        elif name.endswith("weight"):
            value = 1 + 0.1 * noise
        else:
            value = 0.3 * noise
        if name == "camera_head.pose_branch.fc2.bias":  # a turn that is one, and a field of view
            value = 0.02 * noise + torch.tensor([0, 0, 0, 0, 0, 0, 0.5, 0.25, 0.25], dtype=torch.float64)
        if name == "camera_head.pose_branch.fc2.weight":
            value = 0.1 * value
        parameter.data.copy_(value)
    return model
