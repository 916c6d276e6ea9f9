"""A new export format takes one file and one line: it runs through the command and is in its help text."""

from __future__ import annotations

import json
from pathlib import Path

from tests.analytic_scene import room_scene
from tests.extending import ExtendedPackage

_TOY = '''
"""Toy: the camera centres as JSON."""

from __future__ import annotations

import dataclasses
import json

from .export_format import ExportFormat, PointOptions


@dataclasses.dataclass(frozen=True)
class ToyOptions(PointOptions):
    """`toy.json`."""


def _write(scene, options, target):
    with target.staged(1000) as stage:
        values = {"centres": scene.world_from_cam[:, :, 3].tolist(), "points": len(options.cloud(scene))}
        stage.file("toy.json").write_text(json.dumps(values))


FORMAT = ExportFormat("toy", "camera centres, for toys", ToyOptions, _write)
'''


def test_a_format_is_one_file_and_one_line(tmp_path: Path) -> None:
    scene, _ = room_scene(views=2)
    result = scene.save(tmp_path / "result")
    package = ExtendedPackage(
        tmp_path, "export/toy.py", _TOY, "export/formats.py", '    "report",\n', '    "report",\n    "toy",\n'
    )
    run = package.run("export", result, "--to", "toy", "--out", tmp_path / "out", "--max-points", 50)
    assert run.returncode == 0, run.stderr
    assert "toy.json" in run.stdout
    written = json.loads((tmp_path / "out" / "toy.json").read_text())
    assert written["points"] == 50 and len(written["centres"]) == 2
    for command in ("export", "reconstruct"):
        assert "toy" in package.run(command, "--help").stdout
