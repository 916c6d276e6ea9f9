"""An any-view Depth Anything 3 small enough for every test, with random weights."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors.torch import save_file

from manyview.models.da3.config import CameraEncoderConfig, DA3Config
from manyview.models.da3.model import DA3
from manyview.models.part_configs import DenseHeadConfig

SMALL = DA3Config(
    dim=32, num_heads=2, native_grid=4, head=DenseHeadConfig(16, (8, 8, 16, 16)),
    camera_encoder=CameraEncoderConfig(1),
)  # fmt: skip
GIANT = DA3Config(
    dim=48, layers=8, num_heads=3, swiglu=True, native_grid=4, taps=(3, 4, 5, 7), alternating_from=3,
    head=DenseHeadConfig(16, (8, 8, 16, 16)), camera_encoder=CameraEncoderConfig(1),
)  # fmt: skip
"""Alternation that starts with a global block, and gated MLPs."""


def tiny_da3(config: DA3Config = SMALL) -> DA3:
    """Random weights from a fixed seed; cameras near to no rotation and a field of view of a radian."""
    model = DA3(config)
    generator = torch.Generator().manual_seed(0)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.15, generator=generator)
    with torch.no_grad():
        for layer, bias in (
            (model.cam_dec.fc_t, (0.0, 0.0, 0.0)),
            (model.cam_dec.fc_qvec, (0.0, 0.0, 0.0, 1.0)),
            (model.cam_dec.fc_fov[0], (0.9, 1.0)),
        ):
            layer.weight.mul_(0.2)
            layer.bias.copy_(torch.tensor(bias))
    return model.eval()


def write_da3(path: Path, model: DA3 | None = None) -> Path:
    """A checkpoint in the published layout."""
    weights = (model or tiny_da3()).state_dict()
    save_file({f"model.{k}": v.clone().contiguous() for k, v in weights.items()}, path)
    return path
