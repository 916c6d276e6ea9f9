"""A network of single views small enough for tests."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import torch
from safetensors.torch import save_file

from manyview.models.da3.mono import DA3Mono
from manyview.models.da3.mono_config import DA3MonoConfig
from manyview.models.part_configs import DenseHeadConfig

TINY_MONO = DA3MonoConfig(
    dim=64,
    layers=24,
    num_heads=1,
    native_grid=3,
    image_size=56,
    head=DenseHeadConfig(8, (8, 8, 8, 8)),
)


def tiny_mono(metric: bool = False) -> DA3Mono:
    """The network with random weights, in evaluation mode."""
    torch.manual_seed(0)
    network = DA3Mono(dataclasses.replace(TINY_MONO, metric=metric))
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    return network.eval()


def published(network: torch.nn.Module, folder: Path) -> Path:
    """The file as the publishers write it: every name behind "model."."""
    folder.mkdir(parents=True)
    tensors = {f"model.{key}": value.contiguous() for key, value in network.state_dict().items()}
    save_file(tensors, folder / "model.safetensors")
    return folder
