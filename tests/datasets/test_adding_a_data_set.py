"""A new data set takes one file and one line: the command evaluates it, finds its cameras and lists it."""

from __future__ import annotations

import json
from pathlib import Path

import manyview
from tests.extending import ExtendedPackage
from tests.models.tiny_pi3 import tiny_pi3x, write_pi3

from .posed_fixtures import write_image

_TOY = '''
"""Toy: `toy.json` with the position of each image on a rail, cameras looking ahead."""

import json

import numpy as np

from .dataset import Dataset
from .posed_set import posed_set


def fits(folder):
    return (folder / "toy.json").is_file()


def read(folder):
    positions = json.loads((folder / "toy.json").read_text())
    world_from_cam = np.tile(np.eye(3, 4), (len(positions), 1, 1))
    world_from_cam[:, 0, 3] = list(positions.values())
    intrinsics = np.array([[30.0, 0, 16], [0, 30, 12], [0, 0, 1]])
    return posed_set(folder, (folder / name for name in positions), world_from_cam, "toy.json", intrinsics)


DATASET = Dataset(
    fits, read, "rail/toy.json with images", (("", "*"),), "a toy shop",
    splits={"two": "long short"},
)
'''


def test_a_data_set_is_one_file_and_one_line(tmp_path: Path) -> None:
    package = ExtendedPackage(
        tmp_path,
        "datasets/toy.py",
        _TOY,
        "datasets/__init__.py",
        '    ("colmap", "COLMAP models", "colmap"),\n',
        '    ("colmap", "COLMAP models", "colmap"),\n    ("toy", "Toys on a Rail", "toy"),\n',
    )
    rail = tmp_path / "data" / "rail"
    for i in range(3):
        write_image(rail / f"{i}.png", i)
    (rail / "toy.json").write_text(json.dumps({f"{i}.png": float(i * i) for i in range(3)}))
    tiny = write_pi3(tmp_path / "pi3x.safetensors", tiny_pi3x())

    out = tmp_path / "out"
    given = ("--model", tiny, "--out", out)
    run = package.run("evaluate", "toy", "--root", tmp_path / "data", *given, "--workers", 1)
    assert run.returncode == 0, run.stderr
    assert "# toy, protocol default" in run.stdout
    scene = json.loads((out / "toy.default.json").read_text())["scenes"][0]
    assert scene["name"] == "rail" and scene["rows"][0]["figures"]["auc_30"] is not None

    run = package.run("evaluate", "posed", rail, "--model", tiny, "--views", 3, "--out", tmp_path / "posed")
    assert run.returncode == 0, run.stderr
    found = json.loads((tmp_path / "posed" / "results.json").read_text())["sets"][0]["set"]
    assert found["format"] == "toy" and found["views"] == 3

    run = package.run(
        "reconstruct", rail, tmp_path / "result", "--model", tiny, "--to", "none", "--known-cameras", rail
    )
    assert run.returncode == 0, run.stderr
    known = manyview.load_reconstruction(tmp_path / "result").settings["known"]
    assert (known["poses"], known["intrinsics"]) == (3, 3)

    assert {"toy", "Toys"} <= set(package.run("evaluate", "--help").stdout.split())
    run = package.run("evaluate", "toy", "--root", tmp_path / "nowhere", "--model", tiny)
    assert run.returncode == 2 and "rail/toy.json with images" in run.stderr
