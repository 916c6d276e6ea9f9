"""Tools that compare weights: their tables, the recipes of pilots, and what they say once."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from tools.training.pilots import VARIANTS, Pilots, recipe_of, with_photographs
from tools.training.validate import heading, line

from manyview.models.vggt.model import VGGT
from manyview.train.grow import grow_from, load_trainable
from manyview.train.sources import shows_pictures

ONE = {"door": {"auc_5": 1.0, "auc_30": 40.0}, "mean of photographs": {"auc_5": 1.0, "auc_30": 40.0}}


def cells(text: str) -> list[list[str]]:
    return [[cell.strip() for cell in row.strip("|").split("|")] for row in text.splitlines()]


def test_one_model_has_figures_as_columns_and_several_are_columns() -> None:
    (columns, _), (row,) = cells(heading({"a": ONE})), cells(line({"a": ONE}, "door"))
    assert len(columns) == len(row) and row[columns.index("auc_30")] == "40"
    two = {"a": ONE, "b": {name: {"auc_5": 2.0, "auc_30": 50.0} for name in ONE}}
    assert cells(heading(two))[0] == ["set", "figure", "a", "b"]
    assert cells(line(two, "door")) == [["door", "auc_30", "40", "50"]]
    assert cells(line(two, "mean of photographs")) == [
        ["mean of photographs", "auc_5", "1", "2"],
        ["mean of photographs", "auc_30", "40", "50"],
    ]


@pytest.mark.parametrize("name", VARIANTS)
def test_pilots_begin_from_the_weights_in_the_package(name: str) -> None:
    what, config = VARIANTS[name], recipe_of(name, VARIANTS[name])
    assert (config.model.depth, config.model.dim) == (what.pairs, what.width) and config.processor_time
    assert any(shows_pictures(mix) for stage in config.stages for mix in stage.scenes) is what.textures
    with torch.device("meta"):
        model = VGGT(config.model)
    model = model.to_empty(device="cpu")
    grow_from(model, load_trainable("manyview-small").float(), config.init_layers, config.grown_layer_scale)


@pytest.mark.parametrize("name", VARIANTS)
def test_pilots_have_their_share_of_photographs(name: str, tmp_path: Path) -> None:
    for file in ("cameras.txt", "images.txt", "points3D.txt"):
        (tmp_path / file).touch()
    what, recipe = VARIANTS[name], recipe_of(name, VARIANTS[name])
    args = Pilots(tmp_path, (tmp_path,), tmp_path, (), tmp_path, data_share=0.4)
    (stage,) = with_photographs(recipe, what, args).stages
    posed = [mix for mix in stage.scenes if mix.posed is not None]
    share = sum(mix.share for mix in posed) / sum(mix.share for mix in stage.scenes)
    assert share == pytest.approx(0.4 if what.photographs else 0.0)
    for mix in posed:
        assert mix.posed is not None and mix.posed.zoom == what.zoom


def test_tools_say_each_message_once() -> None:
    code = """
import dataclasses, logging
from tools.command import run_command
Options = dataclasses.make_dataclass("Options", [])
def run(options):
    for text in ("first", "first", "second"):
        logging.getLogger("manyview.any").warning(text)
run_command(Options, run, "tools.any", [])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr.splitlines() == ["first", "second"]
