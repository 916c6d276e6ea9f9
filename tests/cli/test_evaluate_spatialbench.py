"""`manyview evaluate spatialbench` as a user calls it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from manyview.evaluate.report.spatialbench import leaderboard
from manyview.evaluate.runner.records import Evaluation, PlanRow, SceneRows
from tests.datasets.test_spatialbench import write_scene

from .conftest import Command


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for density in ("single", "sparse", "medium", "dense"):
        write_scene(tmp_path / density / "tum" / "freiburg1_room")
    write_scene(tmp_path / "medium" / "7scenes" / "chess_seq-05" / "0")
    return tmp_path


def test_the_leaderboard_of_all_densities(
    command: Command, weights: Path, root: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    line = (
        "evaluate",
        "spatialbench",
        "--root",
        root,
        "--model",
        weights,
        "--image-size",
        56,
        "--workers",
        1,
    )
    every = (
        "--density",
        "dense",
        "single",
        "sparse",
        "medium",
        "--scenes",
        "*",
        "--accel",
        "dense",
        "--out",
        out,
    )
    status, stdout, stderr = command(*line, *every)
    assert status == 0, stderr
    table = (out / "spatialbench.leaderboard.md").read_text()
    assert table.strip() in stdout and "Medium: F-Score" in table
    data = json.loads((out / "spatialbench.spatialbench-medium.json").read_text())
    assert [scene["group"] for scene in data["scenes"]] == ["7scenes", "tum"]
    assert [row["plan"] for row in data["scenes"][0]["rows"]] == ["dense"]
    of_cloud, without = (scene["rows"][0]["figures"] for scene in data["scenes"])
    # There is no pointcloud/ here.
    assert of_cloud["surface_f_0.05"] is None and of_cloud["gt_pose_surface_overall"] is None
    assert "surface_f_0.05" not in without and without["tgm"] is not None
    single = json.loads((out / "spatialbench.spatialbench-single.json").read_text())
    assert "auc_30" not in single["scenes"][0]["rows"][0]["figures"]
    status, again, stderr = command(*line, *every)
    assert status == 0 and again == stdout, stderr  # nothing ran


def test_dense_scenes_have_a_plan_that_is_chosen(command: Command, weights: Path, root: Path) -> None:
    line = ("evaluate", "spatialbench", "--root", root, "--model", weights, "--image-size", 28)
    status, stdout, stderr = command(*line, "--density", "dense", "--scenes", "tum")
    assert status == 0, stderr
    assert "| `auto` |" in stdout and "tiny.safetensors, `auto`" in stdout


def test_a_plan_that_does_not_fit_is_a_row_with_the_reason(
    command: Command, weights: Path, root: Path, tmp_path: Path
) -> None:
    line = ("evaluate", "spatialbench", "--root", root, "--model", weights, "--image-size", 56)
    small = ("--density", "dense", "--scenes", "tum", "--memory-limit-gib", 0.001, "--out", tmp_path / "out")
    status, stdout, stderr = command(*line, *small)
    assert status == 0, stderr
    assert "`auto` did not fit in memory in 1 scenes; tum/freiburg1_room: 5 views of 56x42 need" in stdout
    assert stdout.count("OOM") == 8
    data = json.loads((tmp_path / "out" / "spatialbench.spatialbench-dense.json").read_text())
    assert all("need about" in row["failed"] for row in data["scenes"][0]["rows"])


def test_what_is_missing_is_named(command: Command, weights: Path, root: Path) -> None:
    line = ("evaluate", "spatialbench", "--model", weights)
    for more, named in (
        (("--root", root), "--density"),
        (("--density", "sparse"), "--root"),
        (("--root", root / "nowhere", "--density", "sparse"), "sparse.tar"),
        (("--root", root, "--density", "sparse"), "16 of 17 scenes"),
        (("--root", root, "--density", "sparse", "--protocol", "pi3-pose"), "not for spatialbench"),
    ):
        status, _, stderr = command(*line, *more)
        assert status == 2 and named in stderr and stderr.strip().count("\n") <= 1, (more, stderr)


def _evaluation(*figures: dict[str, float] | None) -> Evaluation:
    rows = [
        (
            PlanRow("dense", "", dict(one), timings_s={"forward": 2.0})
            if one is not None
            else PlanRow("dense", "", failed="no")
        )
        for one in figures
    ]
    scenes = tuple(SceneRows(str(i), "", 5, "m", ("a",), "", (row,)) for i, row in enumerate(rows))
    return Evaluation({"protocol": {"average": "scenes", "unfinished": "plan"}}, {}, scenes)


def test_rows_of_the_leaderboard_by_hand() -> None:
    four = {"abs_rel": 0.1, "auc_30": 80.0, "ate": 1.0, "surface_f_0.05": 50.0}
    other = {"abs_rel": 0.3, "auc_30": 60.0, "ate": 3.0, "surface_f_0.05": 70.0}
    found = leaderboard(
        {"sparse": _evaluation(four), "medium": _evaluation(four, other), "dense": _evaluation(other, None)},
        "m",
        12_300_000,
    )
    row = [cell.strip() for cell in found.splitlines()[2].strip("|").split("|")]
    assert row[:6] == ["m, `dense`", "12", "2", "–", "0.100", "0.800"]
    assert row[6:10] == ["0.200", "0.700", "2.000", "0.600"] and row[10:14] == ["OOM"] * 4
    assert row[14:] == ["(0.150)", "(0.750)", "(2.000)", "(0.600)"]
