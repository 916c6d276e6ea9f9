"""Figures and pictures of confirmed depth."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tools.results.stereo import StereoFigures, measure

from manyview.errors import UsageError
from tests.analytic_scene import room_scene


def test_figures_and_picture(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    scene, _ = room_scene()
    confirmed = np.zeros(scene.z_depth.shape, dtype=bool)
    confirmed[:, ::2] = True
    dataclasses.replace(scene, confirmed=confirmed).save(tmp_path / "out")
    measure(StereoFigures(tmp_path / "out", tmp_path / "ahead.png", width=120, turn_deg=30.0))
    assert "50.0%" in capsys.readouterr().out
    drawn = np.asarray(Image.open(tmp_path / "ahead.png"))
    assert drawn.shape[1] == 120 and (drawn < 250).any(-1).mean() > 0.05


def test_a_result_without_confirmed_depth(tmp_path: Path) -> None:
    room_scene()[0].save(tmp_path / "out")
    with pytest.raises(UsageError, match="out"):
        measure(StereoFigures(tmp_path / "out", tmp_path / "ahead.png"))
