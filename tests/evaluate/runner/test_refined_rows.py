"""Rows of refined results beside the plans on folders of images with known cameras."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from manyview.evaluate.report.posed import posed_json, posed_table
from manyview.evaluate.runner import scene as runner_scene
from manyview.evaluate.runner.image_sets import evaluate_posed
from manyview.reconstruction.result.result import Reconstruction
from manyview.refine import RefineOptions
from manyview.refine.stereo.confirm import STAGE
from tests.datasets.posed_fixtures import cam_from_world, write_plain
from tests.models.tiny import tiny_vggt


def test_a_refined_result_has_a_row_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_plain(tmp_path / "kitchen")
    asked: list[Any] = []

    def true_cameras(scene: Reconstruction, **how: Any) -> Reconstruction:
        asked.append(how)
        statuses = [{"status": "mapped"}] * 4 + [{"status": "unrefined"}]
        refinement = {"accepted": True, "sentence": "4 of 5 views refined", "views": statuses}
        cameras = cam_from_world() * np.array([1.0, 1, 1, 3])
        timings = {**scene.timings_s, "refine": 2.0, STAGE: 3.0}
        return dataclasses.replace(scene, cam_from_world=cameras, refinement=refinement, timings_s=timings)

    monkeypatch.setattr(runner_scene, "refine", true_cameras)
    monkeypatch.setattr("manyview.evaluate.runner.image_sets.require_pycolmap", lambda: None)
    options = RefineOptions(max_features=500)
    told: list[tuple[int, int]] = []
    result = evaluate_posed(
        tiny_vggt(),
        [tmp_path / "kitchen"],
        ("dense", "frame"),
        references=("identity",),
        refine=options,
        progress=lambda done, total: told.append((done, total)),
    )
    assert [how["options"] for how in asked] == [options] * 2 and told[-1] == (5, 5)
    rows = {row["name"]: row for row in posed_json(result)["sets"][0]["rows"]}
    assert list(rows) == ["dense", "dense, refined", "frame", "frame, refined", "identity"]
    refined = rows["dense, refined"]
    assert refined["numbers"]["auc_30"] == pytest.approx(100)
    assert (refined["refine_seconds"], refined["refined_views"]) == (5.0, 4.0)
    assert rows["dense"]["refine_seconds"] is None and rows["dense"]["numbers"]["auc_30"] < 99
    assert rows["identity"]["numbers"]["focal_error"] is None
    assert result.settings["refine"]["max_features"] == 500
    assert "Dense, refined: 4 of 5 views refined." in posed_table(result)
