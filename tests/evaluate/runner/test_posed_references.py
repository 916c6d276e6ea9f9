"""COLMAP beside the plans on folders of pictures with known cameras."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from manyview.evaluate.references.colmap import CameraEstimate
from manyview.evaluate.report.posed import posed_json, posed_table
from manyview.evaluate.runner import scene as runner_scene
from manyview.evaluate.runner.image_sets import evaluate_posed
from tests.datasets.posed_fixtures import cam_from_world, write_plain
from tests.models.tiny import tiny_vggt


@pytest.mark.parametrize("given", [5, 3, 0])
def test_colmap_has_a_row_whatever_it_finds(given: int, tmp_path: Path, monkeypatch) -> None:
    write_plain(tmp_path / "kitchen")
    cameras = cam_from_world() * np.array([1.0, 1, 1, 3])
    cameras[given:] = np.nan
    asked: list[Path | None] = []

    def found(images, options, folder, threads):
        asked.append(folder)
        return CameraEstimate(cameras, 7.0, (f"colmap: {given} of 5",))

    monkeypatch.setattr(runner_scene, "colmap_estimate", found)
    monkeypatch.setattr("manyview.evaluate.references.require_colmap", lambda: None)
    result = evaluate_posed(
        tiny_vggt(),
        [tmp_path / "kitchen"],
        ("dense",),
        references=("colmap",),
        reference_folder=tmp_path / "kept",
    )
    _, row = posed_json(result)["sets"][0]["rows"]
    assert (row["name"], row["seconds"], row["left_out"]) == ("colmap", 7, 5 - given)
    assert asked == [tmp_path / "kept"]
    numbers = row["numbers"]
    assert numbers["auc_30"] == pytest.approx({5: 100, 3: 30, 0: 0}[given])
    assert numbers["abs_rel"] is None and (numbers["ate"] is None) == (given == 0)
    # What COLMAP did not find counts as the largest angles there are, in no other number.
    assert max(numbers["rotation_median_deg"], numbers["translation_median_deg"]) <= 180
    table = posed_table(result)
    assert "00000" not in table
    assert f"Colmap: {given} of 5." in table and "identity" not in table
    assert ("ATE of its 3 views alone" in table) == (given == 3)
