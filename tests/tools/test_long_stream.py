"""The errors along a stream, on cameras whose errors are known, and the command itself."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
import torch
from tools.results import long_stream as long_run

from manyview.synthetic import SceneOptions, render_scenes
from manyview.synthetic.render import render_in_parts


def _turn(degrees: float) -> torch.Tensor:
    c, s = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    return torch.tensor([[c, 0, s], [0, 1, 0], [-s, 0, c]], dtype=torch.float64)


def test_errors_are_those_that_were_put_in():
    frames = 20
    truth = torch.eye(3, 4, dtype=torch.float64).repeat(frames, 1, 1)
    truth[:, :, 3] = torch.randn(frames, 3, dtype=torch.float64)
    # Another world frame and unit, and in the second half 7 degrees of drift and depth of half the unit.
    found = truth @ torch.cat([torch.cat([_turn(30), torch.zeros(3, 1)], 1), torch.eye(4)[3:]]).double()
    found[:, :, 3] *= 3
    found[10:, :, :3] = _turn(7) @ found[10:, :, :3]
    found[10:, :, 3:] = _turn(7) @ found[10:, :, 3:]
    depth = torch.full((frames, 16, 16), 3.0)
    depth[10:] = 6.0
    log = [
        {"first": first, "ms_per_frame": 5.0 + first, "memory_bytes": 2**20 * (1 + first)}
        for first in range(0, 20, 5)
    ]
    first, second = long_run.along(found, truth, depth, torch.ones(frames, 2, 2), log, 2)
    assert first["rotation_deg"] < 1e-4 and second["rotation_deg"] == pytest.approx(7)
    assert first["centre_error"] < 1e-6 and second["centre_error"] < 1e-6
    assert first["auc30"] == pytest.approx(100)
    assert (first["depth_scale"], second["depth_scale"]) == pytest.approx((1, 0.5))
    assert (first["memory_mib"], second["memory_mib"]) == (6, 16)
    assert (first["ms_per_frame"], second["ms_per_frame"]) == (7.5, 17.5)
    assert long_run.table([first, second]).count("\n") == 4


def test_parts_are_the_scene():
    options = SceneOptions.medium(kind="room", path="walk")
    whole = render_scenes(3, 5, 16, 16, options)
    parts = list(render_in_parts(3, 5, 16, 16, options, views_at_once=2))
    assert [part.images.shape[1] for part in parts] == [2, 2, 1]
    assert torch.equal(torch.cat([part.images for part in parts], 1), whole.images)
    assert torch.equal(torch.cat([part.cam_from_world for part in parts], 1), whole.cam_from_world)


def test_the_whole_run(tmp_path: Path, weights: Path, capfd):
    pytest.importorskip("matplotlib")
    run = [str(tmp_path), "--frames", "6", "--size", "56", "--windows", "2", "--"]
    assert long_run.main([*run, "--model", str(weights), "--chunk", "2", "--device", "cpu"]) == 0
    report = json.loads((tmp_path / "long_run.json").read_text())
    assert [row["first"] for row in report["windows"]] == [0, 3] and len(report["log"]) == 3
    assert "rotation_deg" in capfd.readouterr().out and (tmp_path / "long_run.png").is_file()
