"""References beside the plans of a run over a dataset."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from manyview.datasets import dataset_named
from manyview.evaluate.protocols.frames import Frames
from manyview.evaluate.protocols.measures import Depth, PointMaps, RelativePose, Trajectory
from manyview.evaluate.protocols.protocol import ANY, Protocol
from manyview.evaluate.references import colmap
from manyview.evaluate.references.colmap import CameraEstimate
from manyview.evaluate.report.evaluation import evaluation_table
from manyview.evaluate.report.files import read_evaluation, write_evaluation
from manyview.evaluate.runner import scene as runner_scene
from manyview.evaluate.runner.image_sets import evaluate_dataset
from tests.datasets.posed_fixtures import VIEWS, cam_from_world, write_plain
from tests.models.tiny import tiny_vggt

QUICK = Protocol(
    "quick",
    "tests",
    "everything that is quick",
    (RelativePose(), Trajectory(), Depth(), PointMaps(icp=None, normals=0)),
    ("auc_30", "ate", "abs_rel", "accuracy"),
    ((ANY, Frames("spread", most=100)),),
)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for name in ("a", "b"):
        write_plain(tmp_path / "data" / name)
    return tmp_path / "data"


@pytest.fixture
def found(monkeypatch) -> list[CameraEstimate]:
    """What COLMAP will find, scene by scene."""
    answers: list[CameraEstimate] = []
    monkeypatch.setattr(colmap, "require_colmap", lambda: None)
    monkeypatch.setattr("manyview.evaluate.references.require_colmap", lambda: None)
    monkeypatch.setattr(runner_scene, "colmap_estimate", lambda *a, **k: answers.pop(0))
    return answers


def run(root: Path, *references: str, **changes):
    dataset = dataset_named("plain")
    return evaluate_dataset(tiny_vggt(), dataset, root, QUICK, references=references, workers=1, **changes)


def some_cameras(given: int) -> np.ndarray:
    """The true cameras in another scale, of the first views alone."""
    cameras = cam_from_world() * np.array([1.0, 1, 1, 3])
    cameras[given:] = np.nan
    return cameras


def test_rows_that_do_not_look_have_every_figure(root: Path) -> None:
    result = run(root, "identity", "mean-step")
    assert result.plans == ("dense", "identity", "mean-step") and result.context["references"]
    for row in result.scenes[0].rows[1:]:
        assert row.reference and set(row.figures) == set(result.scenes[0].rows[0].figures)
        absent = {name for name, value in row.figures.items() if value is None}
        assert absent <= {"nc", "nc_median", "icp_fitness"}
    # The same depth everywhere, after one median scale: the truth has 1 to 5 m in equal parts, but for a row
    # of 65 m, which is a twentieth.
    expected = np.mean([2, 0.5, 0, 0.25, 0.4])
    assert result.scenes[0].rows[1].figures["abs_rel"] == pytest.approx(expected, rel=0.05)
    table = evaluation_table(result)
    assert "`identity` is an image-independent baseline" in table and "`colmap`" not in table


def test_colmap_counts_lost_views_as_wrong_and_tells_them(root: Path, found: list) -> None:
    found += [
        CameraEstimate(some_cameras(VIEWS), 2.0, ("colmap: all",)),
        CameraEstimate(some_cameras(3), 4.0, ("colmap: three",)),
    ]
    result = run(root, "colmap")
    whole, part = (scene.rows[1] for scene in result.scenes)
    assert whole.figures["auc_30"] == 100 and whole.figures["registered"] == 100
    assert whole.figures["ate"] == pytest.approx(0, abs=1e-9)
    # Three of five views: 3 of 10 pairs are right, and two views stand in the mean of the true centres.
    assert part.figures["auc_30"] == pytest.approx(30) and part.figures["registered"] == 60
    assert part.left_out == 2 and part.figures["ate_registered"] == pytest.approx(0, abs=1e-9)
    centres = np.array([[1, 2, 3], [1.5, 2, 3], [2, 2.5, 3], [2, 3, 4.5], [0, -1, 2]])
    lost = ((centres[3:] - centres.mean(0)) ** 2).sum()
    assert part.figures["ate"] == pytest.approx(np.sqrt(lost / 5))
    assert part.figures["abs_rel"] is None and part.figures["accuracy"] is None
    table = evaluation_table(result)
    assert "8 of 10 views registered, 3 s a scene" in table and "count as wrong" not in table


def test_a_failed_reconstruction_leaves_all_other_figures_as_they_are(root: Path, found: list) -> None:
    nothing = CameraEstimate(some_cameras(0), 1.0, ("colmap: no reconstruction: no pair",))
    found += [CameraEstimate(some_cameras(VIEWS), 1.0), nothing]
    result, alone = run(root, "colmap"), run(root)
    row = result.scenes[1].rows[1]
    assert row.figures["auc_30"] == 0 and row.figures["ate"] is None and row.figures["registered"] == 0
    summary = result.summary()
    assert summary["colmap"]["auc_30"] == 50 and summary["colmap"]["scenes"] == 2
    assert summary["dense"]["auc_30"] == alone.summary()["dense"]["auc_30"]
    assert "b: colmap: no reconstruction: no pair." in evaluation_table(result)


def test_references_are_taken_over_where_nothing_changed(root: Path, found: list, tmp_path: Path) -> None:
    lasting = CameraEstimate(some_cameras(VIEWS), 1.0)
    passing = CameraEstimate(some_cameras(0), 1.0, ("colmap: crashed",), lasting=False)
    found += [lasting, passing]
    first = run(root, "identity", "colmap")
    out = tmp_path / "out"
    out.mkdir()
    (path,) = [p for p in write_evaluation(first, out, "") if p.suffix == ".json"]
    earlier = read_evaluation(path).scenes
    assert earlier == first.scenes
    found += [lasting]  # asked for once: the scene that crashed
    again = run(root, "identity", "colmap", earlier=earlier)
    assert not found and again.scenes[0] == first.scenes[0]
    assert again.scenes[1].rows[2].figures["auc_30"] == 100
