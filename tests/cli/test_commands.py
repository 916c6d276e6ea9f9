"""The commands as a user calls them, on small real files."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import manyview

from .conftest import Command


def test_reconstruct_then_export_everything(command: Command, photos: Path, weights: Path, tmp_path: Path):
    out = tmp_path / "out"
    status, stdout, stderr = command("reconstruct", photos, out, "--model", weights)
    assert status == 0, stderr
    assert "4 views" in stdout and "licence Apache-2.0" in stderr and "expected peak" in stderr
    assert (out / "points.ply").is_file() and (out / "report.html").is_file()
    scene = manyview.load_reconstruction(out)
    assert scene.names == tuple(f"{i}.png" for i in range(4))
    assert scene.images.shape == (4, 42, 56, 3) and scene.settings["accel"] == "dense"
    before = (out / "arrays.safetensors").read_bytes()
    formats = ["colmap", "ply", "glb", "npz", "depth", "nerfstudio", "report"]
    status, stdout, stderr = command("export", out, "--to", *formats, "--overwrite")
    assert status == 0, stderr
    for name in formats:
        assert f"{name}: " in stdout
    assert (out / "sparse" / "0" / "cameras.bin").is_file() and (out / "transforms.json").is_file()
    assert (out / "arrays.safetensors").read_bytes() == before
    for options, size in (((), (56, 42)), (("--original-resolution",), (64, 48))):
        assert command("export", out, "--to", "depth", "--overwrite", *options)[0] == 0
        with Image.open(out / "depth" / "0.png") as depth:
            assert depth.size == size


def test_a_second_run_reuses_or_refuses(command: Command, photos: Path, weights: Path, tmp_path: Path):
    line = ("reconstruct", photos, tmp_path / "out", "--model", weights, "--to", "none")
    assert command(*line)[0] == 0
    first = (tmp_path / "out" / "arrays.safetensors").stat().st_mtime_ns
    status, stdout, _ = command(*line)
    assert status == 0 and "already holds" in stdout
    assert (tmp_path / "out" / "arrays.safetensors").stat().st_mtime_ns == first
    status, _, stderr = command(*line, "--image-size", 42)
    assert status == 1 and "--overwrite" in stderr
    status, _, stderr = command(*line, "--image-size", 42, "--overwrite")
    assert status == 0, stderr
    assert manyview.load_reconstruction(tmp_path / "out").width == 42
    (photos / "1.png").write_bytes((photos / "2.png").read_bytes())
    assert command(*line, "--image-size", 42)[0] == 1


def test_several_files_a_glob_and_a_list(command: Command, photos: Path, weights: Path, tmp_path: Path):
    files = sorted(photos.glob("*.png"))[:2]
    options = ("--model", weights, "--to", "none")
    assert command("reconstruct", *files, tmp_path / "a", *options)[0] == 0
    assert command("reconstruct", f"{photos}/[01].png", tmp_path / "b", *options)[0] == 0
    (tmp_path / "list.txt").write_text("\n".join(str(f) for f in files))
    assert command("reconstruct", tmp_path / "list.txt", tmp_path / "c", *options)[0] == 0
    a, b, c = (manyview.load_reconstruction(tmp_path / n) for n in "abc")
    assert len(a) == 2
    np.testing.assert_array_equal(a.z_depth, b.z_depth)
    np.testing.assert_array_equal(a.z_depth, c.z_depth)


def test_plan_writes_nothing_and_tells_all(command: Command, photos: Path, weights: Path, tmp_path: Path):
    before = sorted(tmp_path.rglob("*"))
    status, stdout, _ = command("plan", photos, "--model", weights, "--max-frames", 3)
    assert status == 0
    assert "3 views of 56x42" in stdout and "expected peak" in stdout and "global layers" in stdout
    assert "views fit" in stdout and sorted(tmp_path.rglob("*")) == before


def test_accel_and_precision_reach_the_model(command: Command, photos: Path, weights: Path, tmp_path: Path):
    line = ("--model", weights, "--to", "none")
    assert command("reconstruct", photos, tmp_path / "a", *line)[0] == 0
    assert command("reconstruct", photos, tmp_path / "b", *line, "--accel", "frame")[0] == 0
    assert command("reconstruct", photos, tmp_path / "c", *line, "--precision", "bf16")[0] == 0
    dense, alone, low = (manyview.load_reconstruction(tmp_path / n) for n in "abc")
    assert not np.allclose(dense.z_depth, alone.z_depth, rtol=1e-4)
    difference = np.abs(low.z_depth / dense.z_depth - 1).mean()
    assert 0 < difference < 0.1 and low.settings["precision"] == "bf16"


def test_evaluate_prints_a_table(command: Command, weights: Path, tmp_path: Path):
    line = ("evaluate", "synthetic", "--model", weights, "--scenes", 2, "--views", 3)
    status, stdout, stderr = command(*line, "--json", tmp_path / "t.json")
    assert status == 0, stderr
    assert "dense" in stdout and "frame" in stdout and "AUC@30" in stdout
    assert set(json.loads((tmp_path / "t.json").read_text())["rows"]) >= {"dense", "frame"}


def test_version_and_help(command: Command):
    assert command("--version")[:2] == (0, f"manyview {manyview.__version__}\n")
    verbs = ("reconstruct", "batch", "plan", "export", "view", "demo", "bench", "train", "evaluate", "doctor")
    for verb in verbs:
        status, stdout, _ = command(verb, "--help")
        assert status == 0 and f"manyview {verb}" in stdout


@pytest.mark.parametrize("line", [(), ("reconstrukt",), ("reconstruct", "--modle", "x"), ("export", "x")])
def test_a_wrong_command_line_is_misuse(command: Command, line):
    assert command(*line)[0] == 2


def test_doctor_tells_what_is_there_and_what_is_missing(command: Command, monkeypatch):
    import importlib.metadata

    status, stdout, stderr = command("doctor")
    assert status == 0, stderr
    assert (
        "torch" in stdout and "device cpu" in stdout and "weights whole" in stdout and "missing" not in stdout
    )
    real = importlib.metadata.version

    def without_av(name: str) -> str:
        if name == "av":
            raise importlib.metadata.PackageNotFoundError(name)
        return real(name)

    monkeypatch.setattr(importlib.metadata, "version", without_av)
    assert "missing (pip install 'manyview[video]')" in command("doctor")[1]


def test_an_export_option_that_means_nothing_is_refused(
    command: Command, photos: Path, weights: Path, tmp_path: Path
):
    out = tmp_path / "out"
    assert command("reconstruct", photos, out, "--model", weights, "--to", "none")[0] == 0
    status, _, stderr = command("export", out, "--to", "npz", "--max-points", 10)
    assert status == 2 and "--max-points" in stderr and not (out / "scene.npz").exists()
    assert command("export", out, "--to", "npz", "ply", "--max-points", 10)[0] == 0
