"""The page of the verdict beside AUC@30 is made of the JSON beside it, and says what is asked of it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from tools.results.quality import fitted, markdown, spearman
from tools.results.quality_runs import bent, perturbed, plane_sweep

from tests.analytic_scene import fit_transform, room_scene

RESULTS = Path(__file__).resolve().parents[2] / "docs" / "results" / "quality"


def test_the_page_is_made_of_its_json() -> None:
    content = json.loads((RESULTS / "quality.json").read_text(encoding="utf-8"))
    assert markdown(content) == (RESULTS / "quality.md").read_text(encoding="utf-8")
    grades = {(row["set"], row["how"]): row["quality"]["grade"] for row in content["rows"]}
    assert grades["demo", "manyview-small, dense"] == "good"
    for name in ("mvs-herz-jesu-p25", "mvs-fountain-p11"):
        assert grades[name, "manyview-small, dense"] == "bad"
        assert grades[name, "truth"] == "good"


def test_rank_correlation_shares_ranks() -> None:
    rising = np.array([1.0, 2, 3, 4])
    assert spearman(rising, rising**3) == pytest.approx(1)
    assert spearman(rising, -rising) == pytest.approx(-1)
    assert spearman(np.array([1.0, 1, 2, 3]), rising) == pytest.approx(0.9487, abs=1e-4)


def test_thresholds_separate_what_can_be_separated() -> None:
    scores, bands = np.array([0.9, 0.85, 0.75, 0.72, 0.5, 0.4]), np.array([0, 0, 1, 1, 2, 2])
    low, high = fitted(scores, bands)
    assert 0.5 < low <= 0.72 and 0.75 < high <= 0.85


def test_noise_leaves_cameras_valid_and_grows() -> None:
    scene, _ = room_scene()
    for changed in (perturbed(scene, 5, 0.1, 0.05, 0.1, seed=0), bent(scene, 10, seed=0)):
        turn = changed.cam_from_world[:, :, :3] @ np.swapaxes(scene.cam_from_world[:, :, :3], 1, 2)
        angles = np.degrees(np.arccos(((np.trace(turn, axis1=1, axis2=2) - 1) / 2).clip(-1, 1)))
        assert 0.5 < np.median(angles) < 25


def test_a_plane_sweep_finds_depth() -> None:
    scene, _ = room_scene([fit_transform((320, 240), (84, 63))] * 6)
    depth = plane_sweep(scene.images.copy(), scene.cam_from_world, scene.intrinsics)
    found = np.isfinite(depth)
    assert found.mean() > 0.2
    assert np.median(np.abs(depth[found] / scene.z_depth[found] - 1)) < 0.15
