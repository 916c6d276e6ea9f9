"""The model under test: loaded, or of a named size with random weights."""

from __future__ import annotations

import dataclasses

import torch

from ..errors import UsageError
from ..models.load import load
from ..models.network import Network
from ..models.vggt.config import VGGT_1B, CameraHeadConfig, DenseHeadConfig, EncoderConfig, VGGTConfig
from ..models.vggt.model import VGGT

_SUFFIX = "-random"
_DENSE = DenseHeadConfig(features=32, out_channels=(32, 48, 64, 64))
SIZES = {
    "vggt-1b": VGGT_1B,
    # That of the bundled recipe `small`.
    "small": VGGTConfig(
        dim=128,
        depth=6,
        num_heads=4,
        patch_size=8,
        registers=4,
        image_size=80,
        taps=(1, 3, 4, 5),
        encoder=EncoderConfig(depth=2, num_heads=4, registers=4, native_grid=8),
        camera_head=CameraHeadConfig(depth=2, num_heads=4),
        depth_head=_DENSE,
        point_head=_DENSE,
        track_head=None,
    ),
}


def subject(name: str, device: torch.device, heads: tuple[str, ...], seed: int = 0) -> Network:
    """The model called `name` on `device`, with no more heads than needed.

    "vggt-1b-random" and "small-random" have seeded random weights: speed does not depend on what a
    model has learned. Raises UsageError or WeightsError.
    """
    if not name.endswith(_SUFFIX):
        return load(name, device=device, heads=heads)
    config = SIZES.get(name.removesuffix(_SUFFIX))
    if config is None:
        known = ", ".join(size + _SUFFIX for size in SIZES)
        raise UsageError(f"'{name}': there is no such size for random weights; choose from {known}")
    config = dataclasses.replace(
        config,
        depth_head=config.depth_head if "depth" in heads else None,
        point_head=config.point_head if "points" in heads else None,
        track_head=None,
    )
    model = random_model(config, device, seed)
    model.name = name
    return model


def random_model(config: VGGTConfig, device: torch.device, seed: int = 0) -> VGGT:
    """Weights of the usual scale, drawn on the device; zeros would draw less power and clock higher."""
    with torch.device("meta"):
        model = VGGT(config)
    model = model.to_empty(device=device).eval()
    generator = torch.Generator(device).manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith("gamma"):
                parameter.fill_(0.1)
            elif parameter.ndim >= 2:
                fan_in = parameter[0].numel() if name.endswith("weight") else 1024
                parameter.normal_(std=fan_in**-0.5, generator=generator)
            else:
                parameter.fill_(1.0 if name.endswith("weight") else 0.0)
    return model
