"""`manyview reconstruct --receipt` as a user calls it."""

from __future__ import annotations

import json
from pathlib import Path

import manyview

from .conftest import Command


def test_a_receipt_is_reported_and_kept(command: Command, photos: Path, weights: Path, tmp_path: Path):
    out = tmp_path / "out"
    line = ("reconstruct", photos, out, "--model", weights, "--to", "none", "--accel", "avggt:stride=2x2")
    status, stdout, stderr = command(*line, "--receipt", "--receipt-views", 3)
    assert status == 0, stderr
    assert "receipt on 3 of 4 views" in stdout and "deviation from dense: rotation" in stdout
    written = json.loads((out / "receipt.json").read_text())
    assert len(written["sample"]) == 3 and written["plan"] == "avggt:stride=2x2"
    assert manyview.load_reconstruction(out).comparison is not None


def test_a_receipt_for_a_result_that_is_there_already(
    command: Command, photos: Path, weights: Path, tmp_path: Path
):
    out = tmp_path / "out"
    line = ("reconstruct", photos, out, "--model", weights, "--to", "none", "--accel", "frame")
    assert command(*line)[0] == 0
    assert not (out / "receipt.json").exists()
    depth = manyview.load_reconstruction(out).z_depth
    status, stdout, stderr = command(*line, "--receipt")
    assert status == 0, stderr
    assert "already holds" in stdout and "receipt on all 4 views" in stdout
    status, _, stderr = command(*line, "--receipt", "--to", "report")
    assert status == 0, stderr
    assert "receipt on all 4 views" in (out / "report.html").read_text()
    assert json.loads((out / "receipt.json").read_text())["views"] == 4
    assert (manyview.load_reconstruction(out).z_depth == depth).all()
    # A new result without a receipt does not keep the old one's.
    assert command(*line[:-1], "dense", "--overwrite")[0] == 0
    assert not (out / "receipt.json").exists()


def test_dense_and_a_sample_without_a_receipt(command: Command, photos: Path, weights: Path, tmp_path: Path):
    line = ("reconstruct", photos, tmp_path / "out", "--model", weights, "--to", "none")
    status, stdout, _ = command(*line, "--receipt")
    assert status == 0 and "nothing to compare" in stdout
    assert not (tmp_path / "out" / "receipt.json").exists()
    status, _, stderr = command(*line, "--receipt-views", 3)
    assert status == 2 and "--receipt" in stderr
