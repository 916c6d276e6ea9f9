"""A nested network small enough for tests."""

from __future__ import annotations

import dataclasses
from typing import Any

import torch

from manyview.models.da3.config import DA3Config
from manyview.models.da3.nested import DA3Nested
from manyview.models.da3.nested_config import DA3NestedConfig
from manyview.models.part_configs import DenseHeadConfig
from tests.models.da3.tiny_mono import TINY_MONO

TINY_NESTED = DA3NestedConfig(
    DA3Config(
        dim=64,
        layers=12,
        num_heads=2,
        native_grid=3,
        image_size=56,
        head=DenseHeadConfig(8, (8, 8, 8, 8)),
    ),
    dataclasses.replace(TINY_MONO, metric=True),
)


def tiny_nested(**changes: Any) -> DA3Nested:
    """The network with random weights; fields of view of about a radian."""
    torch.manual_seed(0)
    network = DA3Nested(dataclasses.replace(TINY_NESTED, **changes))
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    with torch.no_grad():
        network.da3.cam_dec.fc_fov[0].bias.fill_(0.9)
        network.da3.cam_dec.fc_qvec.bias.copy_(torch.tensor([0.0, 0.0, 0.0, 3.0]))
    return network.eval()
