"""`manyview evaluate DATASET --references` as a user calls it."""

from __future__ import annotations

import json
from pathlib import Path

from manyview.evaluate.references import colmap
from tests.datasets.posed_fixtures import write_plain

from .conftest import Command


def test_references_beside_plans_and_on_again(command: Command, weights: Path, tmp_path: Path) -> None:
    write_plain(tmp_path / "data" / "kitchen")
    out = tmp_path / "out"
    line = ("evaluate", "plain", "--root", tmp_path / "data", "--model", weights, "--views", 3, "--out", out)
    status, stdout, stderr = command(*line, "--workers", 1)
    assert status == 0 and "identity" not in stdout, stderr
    # Results of plans alone can be gone on with: references are rows, no settings.
    status, stdout, stderr = command(*line, "--workers", 1, "--references", "identity,mean-step")
    assert (
        status == 0
        and "| `identity` |" in stdout
        and "`mean-step` is an image-independent baseline" in stdout
    ), stderr
    rows = json.loads((out / "plain.default.json").read_text())["scenes"][0]["rows"]
    assert [(row["plan"], row["reference"]) for row in rows] == [
        ("dense", False),
        ("identity", True),
        ("mean-step", True),
    ]


def test_unknown_references_and_a_missing_library_are_reported(
    command: Command, weights: Path, tmp_path: Path, monkeypatch
) -> None:
    write_plain(tmp_path / "kitchen")
    monkeypatch.setattr(colmap.util, "find_spec", lambda name: None)
    for line in (
        ("evaluate", "plain", "--root", tmp_path, "--model", weights),
        ("evaluate", "posed", tmp_path / "kitchen", "--model", weights),
    ):
        status, _, stderr = command(*line, "--references", "glomap")
        assert status == 2 and "there is no reference 'glomap'" in stderr
        status, _, stderr = command(*line, "--references", "colmap")
        assert status == 2 and "pip install 'manyview[colmap]'" in stderr
