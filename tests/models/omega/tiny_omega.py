"""A VGGT-Ω small enough for every test, with random weights."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from safetensors.torch import save_file

from manyview.models.omega.config import OmegaConfig, ReadoutConfig
from manyview.models.omega.model import Omega
from manyview.models.part_configs import DenseHeadConfig, EncoderConfig

SMALL = OmegaConfig(
    dim=32, pairs=5, register_layers=(1, 3), num_heads=2, registers=3, image_size=64, taps=(0, 1, 2, 4),
    encoder=EncoderConfig(1, 2, 4), camera_head=ReadoutConfig(1, 4),
    depth_head=DenseHeadConfig(16, (8, 8, 16, 16)), text_head=ReadoutConfig(1, 4),
)  # fmt: skip


def tiny_omega() -> Omega:
    """Random weights from a fixed seed; cameras near to no rotation and a field of view of a radian."""
    model = Omega(SMALL)
    generator = torch.Generator().manual_seed(0)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.15, generator=generator)
    with torch.no_grad():
        last = model.camera_head.camera_branch[2]
        last.weight.mul_(0.2)
        last.bias.copy_(torch.tensor([0.0, 0, 0, 0, 0, 0, 1, 0.9, 0.9]))
    return model.eval()


def write_omega(path: Path, model: Omega | None = None, with_config: bool = True) -> Path:
    """A checkpoint in the published layout; sizes other than the published need their configuration."""
    model = model or tiny_omega()
    tensors = {k: v.clone().contiguous() for k, v in model.state_dict().items()}
    metadata = {"manyview": json.dumps({"config": model.config.to_json()})} if with_config else None
    save_file(tensors, path, metadata)
    return path
