"""π³'s checkpoints through the command line, like any other."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

import manyview
from tests.models.tiny_pi3 import tiny_pi3, tiny_pi3x, write_pi3

EXPORTS = ("colmap", "ply", "glb", "npz", "depth", "nerfstudio")


def test_reconstruct_exports_and_plans(command, photos, tmp_path):
    weights, out = write_pi3(tmp_path / "pi3.safetensors"), tmp_path / "out"
    status, _, errors = command(
        "reconstruct", photos, out, "--model", weights, "--accel", "avggt:early=1", "--point-head"
    )
    assert status == 0, errors
    result = manyview.load_reconstruction(out)
    assert len(result.views) == 4 and result.head_points is not None
    np.testing.assert_allclose(result.cam_from_world[0], np.eye(3, 4), atol=1e-5)
    assert (result.intrinsics[:, 0, 0] > 0).all()
    assert result.settings["accel"].startswith("avggt")
    assert result.settings["size_policy"] == "area"
    # 64x48 images at 56x42; the weights' rays mean a focal length of about 56 there, so 64 here.
    np.testing.assert_allclose(result.upright_intrinsics[:, [0, 1], [0, 1]], 64, rtol=0.1)
    status, _, errors = command("export", out, "--to", *EXPORTS, "--overwrite")
    assert status == 0, errors
    cameras = [line.split() for line in (out / "sparse/0/cameras.txt").read_text().splitlines()]
    pinholes = [words for words in cameras if words[1:2] == ["PINHOLE"]]
    assert len(pinholes) == 4 and all(words[2:4] == ["64", "48"] for words in pinholes)
    assert all(abs(float(words[4]) - 64) < 7 and float(words[6]) == 32 for words in pinholes)
    frames = json.loads((out / "transforms.json").read_text())["frames"]
    assert len(frames) == 4
    for name in ("points.ply", "scene.glb", "scene.npz", "depth/0.png"):
        assert (out / name).stat().st_size > 0


@pytest.mark.parametrize("network", [tiny_pi3, tiny_pi3x])
def test_a_percentile_of_confidence_means_the_same_share(command, photos, tmp_path, network):
    """The scale is VGGT's, the order and the probability are π³'s own."""
    model, images = network(), torch.rand(2, 3, 28, 42)
    with torch.no_grad():
        found = model(images)
    own = found.confidence_logits[..., 0].sigmoid()
    assert (found.depth_conf >= 1).all()
    torch.testing.assert_close(1 - 1 / found.depth_conf, own, atol=1e-6, rtol=1e-5)
    out = tmp_path / "out"
    weights = write_pi3(tmp_path / "weights.safetensors", model)
    assert command("reconstruct", photos, out, "--model", weights, "--to", "none")[0] == 0
    scene = manyview.load_reconstruction(out)
    for percentile in (30, 80):
        below = (scene.depth_conf < scene.confidence_threshold(percentile)).mean()
        assert below == pytest.approx(percentile / 100, abs=0.01)


def test_plan_tells_the_cost(command, photos, tmp_path):
    status, text, _ = command(
        "plan", photos, "--model", write_pi3(tmp_path / "p.safetensors"), "--accel", "avggt"
    )
    assert status == 0 and "0  " in text


def test_training_starts_from_vggt_only(command, tmp_path):
    weights = write_pi3(tmp_path / "pi3.safetensors")
    status, _, errors = command("train", "elastic", "--init", weights, "--out", tmp_path / "run")
    assert status != 0 and "not a VGGT" in errors
