"""The reference implementation computes what the library computes, and the command times both."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest
import torch
from tools.bench.__main__ import BenchWithReference
from tools.bench.reference import ReferenceVGGT
from tools.bench.reference_da3 import ReferenceDA3

from manyview.bench.subject import random_model, sizes
from manyview.cli.bench import Bench
from manyview.errors import UsageError
from manyview.models.da3.config import DA3Config
from manyview.models.part_configs import DenseHeadConfig
from manyview.models.run_options import RunOptions
from tests.models.tiny import tiny_vggt
from tests.models.tiny_pi3 import tiny_pi3

HEADS = ("camera", "depth", "points")


@pytest.mark.parametrize("shape", [(3, 3, 42, 56), (2, 2, 3, 56, 42), (1, 3, 28, 28)])
def test_reference_and_model_agree_to_rounding(shape):
    model = tiny_vggt(torch.float64)
    images = torch.rand(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    options = RunOptions(heads=HEADS)
    with torch.no_grad():
        ours = model(images, options=options)
        reference = ReferenceVGGT(model)(images, options=options)
    for name in ("pose_encoding", "z_depth", "depth_conf", "world_points", "world_points_conf"):
        # Tables of angles and of the image plane are single precision in both.
        torch.testing.assert_close(getattr(reference, name), getattr(ours, name), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("frames", [2, 5])
def test_reference_of_depth_anything_3(frames):
    sizes_3 = DA3Config(dim=32, num_heads=2, native_grid=5, head=DenseHeadConfig(16, (8, 8, 16, 16)))
    model = random_model(sizes_3, torch.device("cpu")).double()
    images = torch.rand(frames, 3, 42, 56, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        ours, reference = model(images), ReferenceDA3(model)(images)
    for name in ("cam_from_world", "intrinsics", "z_depth", "depth_conf"):
        torch.testing.assert_close(getattr(reference, name), getattr(ours, name), rtol=1e-4, atol=1e-5)


def test_the_small_size_and_uint8_images():
    model = random_model(sizes()["small"], torch.device("cpu"))
    images = torch.randint(0, 256, (3, 3, 40, 56), dtype=torch.uint8)
    with torch.no_grad():
        ours, reference = model(images), ReferenceVGGT(model)(images)
    torch.testing.assert_close(reference.pose_encoding, ours.pose_encoding, rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(reference.z_depth, ours.z_depth, rtol=1e-3, atol=1e-4)


def test_another_family_is_refused():
    model = tiny_pi3()
    with pytest.raises(UsageError) as error:
        ReferenceVGGT(model)
    assert "--twin" in str(error.value) and model.name in str(error.value)


def test_the_command_measures_it_beside_dense(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    small = {"model": "small-random", "frames": (1,), "size": (40, 32), "device": "cpu", "runs": 1}
    command = BenchWithReference(**small, rounds=1, out=tmp_path, plot=False)
    assert dataclasses.replace(command, twin=True).run() == 0
    assert "reference" in capsys.readouterr().out
    figures = json.loads((tmp_path / "bench.json").read_text())
    found = [(case["method"], case["plan"], case["twin"]) for case in figures["measurements"]]
    assert found == [("dense", "dense", False), ("reference", "dense", True)]
    assert figures["measurements"][0]["stage_flops"] == figures["measurements"][1]["stage_flops"]
    with pytest.raises(UsageError) as error:
        Bench(**small, twin=True).run()
    assert "python -m tools.bench --twin" in str(error.value)
