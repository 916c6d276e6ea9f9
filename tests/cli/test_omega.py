"""VGGT-Ω's checkpoints through the command line, like any other."""

from __future__ import annotations

import manyview
from tests.models.omega.tiny_omega import write_omega


def test_reconstruct_exports_and_plans(command, photos, tmp_path):
    weights, out = write_omega(tmp_path / "omega.safetensors"), tmp_path / "out"
    status, stdout, errors = command(
        "reconstruct", photos, out, "--model", weights, "--accel", "avggt:early=1,stride=2x2"
    )
    assert status == 0, errors
    assert "FAIR Noncommercial" in stdout + errors
    result = manyview.load_reconstruction(out)
    assert len(result.views) == 4
    assert result.settings["accel"].startswith("avggt") and result.settings["size_policy"] == "balanced"
    status, _, errors = command("export", out, "--to", "colmap", "glb", "--overwrite")
    assert status == 0, errors
    status, _, errors = command("reconstruct", photos, out, "--model", weights, "--commercial-only")
    assert status != 0 and "commercial use" in errors


def test_plan_tells_the_cost_of_global_layers_alone(command, photos, tmp_path):
    status, text, errors = command(
        "plan", photos, "--model", write_omega(tmp_path / "o.safetensors"), "--accel", "0:frame,1-2:dense"
    )
    assert status == 0, errors
    assert "1-2" in text


def test_every_stage_is_reported_as_often_as_announced(photos, tmp_path):
    model, calls = manyview.load(write_omega(tmp_path / "o.safetensors")), []
    manyview.reconstruct(photos, model, device="cpu", progress=lambda *call: calls.append(call))
    made = [call for call in calls if call[0] == "reconstruct"]
    assert made[-1][1] == made[-1][2] == len(made)
