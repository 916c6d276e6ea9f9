"""The model under test: loaded, or of a named size with random weights."""

from __future__ import annotations

import torch

from ..errors import UsageError
from ..models.config import NetworkConfig
from ..models.families import MODELS, empty_network
from ..models.load import load
from ..models.network import Network
from ..models.part_configs import DenseHeadConfig, EncoderConfig
from ..models.vggt.config import CameraHeadConfig, VGGTConfig

_SUFFIX = "-random"
_DENSE = DenseHeadConfig(features=32, out_channels=(32, 48, 64, 64))
# That of the bundled recipe `small`.
SMALL = VGGTConfig(
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
)


def sizes() -> dict[str, NetworkConfig]:
    """Sizes for random weights by name: those of all named models that have cameras, and "small"."""
    named = {row.name: row.config for row in MODELS if row.config is not None and row.hub_id is not None}
    return {"small": SMALL} | {n: config for n, config in named.items() if "camera" in config.available_heads}


def subject(name: str, device: torch.device, heads: tuple[str, ...], seed: int = 0) -> Network:
    """The model called `name` on `device`, with no more heads than needed.

    "da3-base-random", "small-random" and the like have seeded random weights: speed does not depend on what a
    model has learned. Raises UsageError or WeightsError.
    """
    if not name.endswith(_SUFFIX):
        return load(name, device=device, heads=heads)
    config = sizes().get(name.removesuffix(_SUFFIX))
    if config is None:
        known = ", ".join(size + _SUFFIX for size in sizes())
        raise UsageError(f"'{name}': there is no such size for random weights; choose from {known}")
    model = random_model(
        config.with_heads([head for head in heads if head in config.available_heads]), device, seed
    )
    model.name = name
    return model


def random_model(config: NetworkConfig, device: torch.device, seed: int = 0) -> Network:
    """Weights of the usual scale, drawn on the device; zeros would draw less power and clock higher."""
    model = empty_network(config).to_empty(device=device).eval()
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
