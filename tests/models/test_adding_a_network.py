"""A new network takes one file and one line: its weights are recognised and run by the command."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from safetensors.torch import save_file

from manyview import load_reconstruction
from tests.extending import ExtendedPackage

_TOY = '''
"""Toy: depth is brightness, and every camera is the first one's."""

from __future__ import annotations

import dataclasses

import torch
from torch import nn

from ..attention.plan import Plan
from .checkpoints.named import NamedModel
from .config import NetworkConfig
from .footprint import HeadFootprint
from .network import Network, check_images
from .predictions import Predictions
from .recording import mark
from .spec import ModelSpec


@dataclasses.dataclass(frozen=True)
class ToyConfig(NetworkConfig):
    dim: int = 16
    depth: int = 2
    num_heads: int = 2
    mlp_ratio: float = 2.0
    patch_size: int = 8
    image_size: int = 32
    rope_base: float = 100.0
    special_tokens: int = 1
    encoder: None = None

    @property
    def available_heads(self):
        return ("camera", "depth")

    def head_flops(self, layout, heads, query_points):
        return {f"{head} head": 1.0 for head in heads}

    def head_footprint(self, layout, options, element_bytes):
        return HeadFootprint(taps=0, at_end=0, outputs=0, project=0, work=0)


class Toy(Network):
    def __init__(self, config):
        super().__init__(config)
        self.toy_scale = nn.Parameter(torch.ones(1))

    def forward(self, images, plan=None, options=None, recorder=None, **more):
        images = check_images(images)
        batch, frames, _, height, width = images.shape
        result = Predictions(height, width, self.config.layout(frames, height, width))
        pose = torch.zeros(batch, frames, 9, device=images.device)
        pose[..., 6:] = 1.0
        result.pose_encoding_list = [pose]
        result.z_depth = 1.0 + self.toy_scale * images.float().mean(2)
        result.depth_conf = torch.ones_like(result.z_depth)
        mark(recorder, "depth head")
        return result


SPEC = ModelSpec(
    name="Toy",
    keys=("toy_scale",),
    config=ToyConfig,
    network=Toy,
    models=(NamedModel("toy", "nobody/Toy", "MIT", True, "a network of one weight", config=ToyConfig()),),
)
'''


def test_a_network_is_one_file_and_one_line(tmp_path: Path) -> None:
    images = tmp_path / "images"
    images.mkdir()
    for number, grey in enumerate((60, 180)):
        Image.fromarray(np.full((32, 32, 3), grey, np.uint8)).save(images / f"{number}.png")
    weights = tmp_path / "toy.safetensors"
    metadata = {"manyview": json.dumps({"config": {"image_size": 16}})}
    save_file({"toy_scale": torch.full((1,), 0.5)}, weights, metadata)
    listed = "FAMILIES: tuple[ModelSpec, ...] = ("
    package = ExtendedPackage(
        tmp_path,
        "models/toy.py",
        _TOY,
        "models/families.py",
        listed,
        f"from .toy import SPEC as TOY\n\n{listed}TOY, ",
    )
    run = package.run("reconstruct", images, tmp_path / "out", "--model", weights, "--device", "cpu")
    assert run.returncode == 0, run.stderr
    scene = load_reconstruction(tmp_path / "out")
    assert scene.z_depth.shape == (2, 16, 16)
    assert np.allclose(np.asarray(scene.z_depth)[:, 8, 8], [1 + 0.5 * 60, 1 + 0.5 * 180])
    assert "nobody/Toy" in package.run("models", "--offline").stdout
