"""The model under test: loaded, or of a named size with random weights."""

from __future__ import annotations

import dataclasses

import torch

from ..errors import UsageError
from ..models.load import load
from ..models.network import Network
from ..models.vggt.config import VGGT_1B, VGGTConfig
from ..models.vggt.model import VGGT

_SUFFIX = "-random"
SIZES = ("vggt-1b", "small")


def subject(name: str, device: torch.device, heads: tuple[str, ...], seed: int = 0) -> Network:
    """The model called `name` on `device`, with no more heads than needed.

    "vggt-1b-random" and "small-random" have seeded random weights: speed does not depend on what a
    model has learned. Raises UsageError or WeightsError.
    """
    if not name.endswith(_SUFFIX):
        return load(name, device=device, heads=heads)
    config = _size(name.removesuffix(_SUFFIX))
    config = dataclasses.replace(
        config,
        depth_head=config.depth_head if "depth" in heads else None,
        point_head=config.point_head if "points" in heads else None,
        track_head=None,
    )
    model = random_model(config, device, seed)
    model.name = name
    return model


def _size(name: str) -> VGGTConfig:
    if name == "vggt-1b":
        return VGGT_1B
    if name == "small":
        from ..train.config import load_config

        return load_config("small").model
    raise UsageError(
        f"there is no size {name!r} for random weights: choose from "
        f"{', '.join(size + _SUFFIX for size in SIZES)}"
    )


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
