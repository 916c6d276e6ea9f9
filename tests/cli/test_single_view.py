"""--metric and --sky from the command line, with weights in the published layout."""

from __future__ import annotations

from pathlib import Path

import manyview
from tests.cli.conftest import Command
from tests.models.da3.tiny_mono import published, tiny_mono


def test_both_are_part_of_the_result_and_its_settings(
    command: Command, photos: Path, weights: Path, tmp_path: Path
) -> None:
    single = published(tiny_mono(), tmp_path / "DA3METRIC-tiny")

    def run(*more: object) -> tuple[int, str, str]:
        line = ("reconstruct", photos, tmp_path / "out", "--model", weights, "--to", "none")
        return command(*line, "--metric-model", single, *more)

    status, text, errors = run("--metric", "--sky")
    assert status == 0, errors
    assert single.name in text
    scene = manyview.load_reconstruction(tmp_path / "out")
    assert scene.sky is not None and scene.sky.shape == scene.z_depth.shape
    asked = scene.settings["single_view"]
    assert (asked["metric"], asked["sky"], asked["model"]) == (True, True, single.name)
    assert "single views" in scene.timings_s
    # Random weights see no depth: either there is a factor, or a note that says why not.
    assert (scene.metric is None) == any("no metric scale" in note for note in scene.notes)
    assert "already holds" in run("--metric", "--sky")[1]
    status, _, errors = run("--metric")
    assert status != 0 and "overwrite" in errors


def test_what_does_not_go_together(command: Command, photos: Path, weights: Path, tmp_path: Path) -> None:
    line = ("reconstruct", photos, tmp_path / "out", "--model", weights)
    status, _, errors = command(*line, "--metric", "--metric-model", weights)
    assert status == 2 and weights.name in errors
    mono = published(tiny_mono(), tmp_path / "DA3MONO-tiny")
    status, _, errors = command(*line, "--metric", "--metric-model", mono)
    assert status == 2 and mono.name in errors
    status, _, errors = command(*line, "--sky", "--metric-model", mono, "--accel", "anchors", "--chunk", 2)
    assert status == 2 and "--chunk" in errors
    status, _, errors = command(*line, "--metric", "--known-cameras", tmp_path)
    assert status == 2 and "--metric" in errors
    assert not (tmp_path / "out" / "reconstruction.json").exists()
