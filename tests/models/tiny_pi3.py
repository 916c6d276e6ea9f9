"""A π³ small enough for every test."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import torch
from safetensors.torch import save_file

from manyview.models.part_configs import EncoderConfig
from manyview.models.pi3.config import Pi3Config, Pi3XConfig
from manyview.models.pi3.model import Pi3
from manyview.models.pi3.model_x import Pi3X

SMALL = Pi3Config(
    dim=32, depth=2, num_heads=2, patch_size=14, image_size=56, encoder=EncoderConfig(1, 2, 4, 4),
    decoder_dim=32, decoder_depth=1, decoder_heads=2, point_dim=24, confidence_dim=24, camera_dim=16,
)  # fmt: skip


SMALL_X = Pi3XConfig(
    **{field.name: getattr(SMALL, field.name) for field in dataclasses.fields(SMALL)},
    conv_widths=(16, 16, 8), conv_last=8, metric_dim=32, metric_heads=2, metric_out=16,
)  # fmt: skip


def _random(model: Pi3) -> Pi3:
    generator = torch.Generator().manual_seed(0)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.15, generator=generator)
    model.image_mean.copy_(torch.tensor([0.485, 0.456, 0.406]).view(1, 3, 1, 1))
    model.image_std.copy_(torch.tensor([0.229, 0.224, 0.225]).view(1, 3, 1, 1))
    return model.eval()


def tiny_pi3() -> Pi3:
    """Random weights from a fixed seed, and the buffers that checkpoints hold."""
    model = _random(Pi3(SMALL))
    # Rays that grow with the pixel inside each patch, so that every view has a focal length (about 56).
    offset = (torch.arange(14.0) - 6.5) / 56
    rays = torch.stack([offset.expand(14, 14), offset[:, None].expand(14, 14), torch.zeros(14, 14)])
    with torch.no_grad():
        model.point_head.proj.weight.mul_(0.01)
        model.point_head.proj.bias.copy_(rays.flatten())
    return model


def tiny_pi3x() -> Pi3X:
    """The same for Pi3X."""
    model = _random(Pi3X(SMALL_X))
    assert isinstance(model, Pi3X)
    return model


def write_pi3(path: Path, model: Pi3 | None = None) -> Path:
    """The checkpoint as it is published: tensors only."""
    weights = (model or tiny_pi3()).state_dict()
    save_file({k: v.clone().contiguous() for k, v in weights.items()}, path)
    return path
