"""π³'s checkpoints through the command line, like any other."""

from __future__ import annotations

import numpy as np

import manyview
from tests.models.tiny_pi3 import write_pi3


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
    status, _, errors = command("export", out, "--to", "colmap", "glb", "--overwrite")
    assert status == 0, errors


def test_plan_tells_the_cost(command, photos, tmp_path):
    status, text, _ = command(
        "plan", photos, "--model", write_pi3(tmp_path / "p.safetensors"), "--accel", "avggt"
    )
    assert status == 0 and "0  " in text


def test_training_starts_from_vggt_only(command, tmp_path):
    weights = write_pi3(tmp_path / "pi3.safetensors")
    status, _, errors = command("train", "elastic", "--init", weights, "--out", tmp_path / "run")
    assert status != 0 and "not a VGGT" in errors
