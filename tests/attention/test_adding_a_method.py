"""A new method takes one file and one line: it runs through the command and is in its help text."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from PIL import Image

from tests.extending import ExtendedPackage

_TOY = '''
"""Toy: every other frame's tokens are the keys."""

from __future__ import annotations

import dataclasses

import torch

from ..global_attention import DENSE, GlobalAttention
from ..preset import Preset
from ..protocols import Keys, KeySet


@dataclasses.dataclass(frozen=True)
class SparseFrameKeys(Keys):
    step: int = 2

    def select(self, layer):
        frames = torch.arange(0, layer.layout.frames, self.step)
        return KeySet(*layer.keys_values_of(frames.expand(len(layer.tokens), -1)))

    def count(self, layout):
        return len(range(0, layout.frames, self.step)) * layout.tokens_per_frame


@dataclasses.dataclass(frozen=True)
class Toy(Preset):
    name = "toy"
    paper = "none"
    about = "every other frame is seen"

    step: int = 2
    dense: int = 0

    def layers(self, depth):
        self.check_layers(depth, dense=self.dense)
        toy = GlobalAttention(keys=SparseFrameKeys(self.step))
        return (DENSE,) * self.dense + (toy,) * (depth - self.dense)
'''


def test_a_method_is_one_file_and_one_line(tmp_path: Path) -> None:
    photos = tmp_path / "photos"
    photos.mkdir()
    for index, pixels in enumerate(np.random.default_rng(0).integers(0, 255, (2, 48, 64, 3), np.uint8)):
        Image.fromarray(pixels).save(photos / f"{index}.png")
    line = '    "spark3r": "spark3r.Spark3r",\n'
    package = ExtendedPackage(
        tmp_path,
        "attention/methods/toy.py",
        _TOY,
        "attention/methods/__init__.py",
        line,
        line + '    "toy": "toy.Toy",\n',
    )
    small = ("--image-size", 56, "--device", "cpu")
    run = package.run("reconstruct", photos, tmp_path / "out", "--accel", "toy:dense=1", *small)
    assert run.returncode == 0, run.stderr
    stored = (tmp_path / "out" / "reconstruction.json").read_text(encoding="utf-8")
    assert "toy:dense=1" in json.dumps(json.loads(stored))
    plan = package.run("plan", photos, "--accel", "toy", *small)
    assert "SparseFrameKeys(step=2)" in plan.stdout
    assert "toy" in package.run("reconstruct", "--help").stdout
    wrong = package.run("plan", photos, "--accel", "toy:dense=99", *small)
    assert wrong.returncode != 0 and "dense=99" in wrong.stderr and "Traceback" not in wrong.stderr
