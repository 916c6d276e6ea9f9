"""Pages of docs/results are what the tools make of the JSON beside them, and plans cover every method."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from tools.results import flash_table, posed_summary, procedural, tables
from tools.results.plans import ALL_PLANS, FEW_PLANS, MODELS

from manyview.attention.methods import METHODS
from manyview.attention.plan import Plan

RESULTS = Path(__file__).resolve().parents[2] / "docs" / "results"


@pytest.mark.parametrize("model", MODELS)
def test_summaries_of_procedural_scenes(model):
    assert (RESULTS / model / "summary.md").read_text() == procedural.summary(RESULTS / model)


def test_the_page_of_photographs():
    assert (RESULTS / "posed.md").read_text() == posed_summary.summary(RESULTS, MODELS)


def test_tables_from_their_json(tmp_path):
    data = json.loads((RESULTS / "flash" / "results.json").read_text())
    assert flash_table.summary(data) == (RESULTS / "flash" / "summary.md").read_text()
    names = ("flash", "manyview-small/medium", "manyview-small/posed", "streaming/walk")
    for name in names:
        file = "long_run.json" if "streaming" in name else "results.json"
        (tmp_path / name).mkdir(parents=True)
        shutil.copy(RESULTS / name / file, tmp_path / name / file)
    table, medium, posed, stream = tables.remake(tmp_path)
    assert table.read_text().count("| `dense` | all views at once |") == len(data["cases"])
    assert medium.read_text().count("| `dense` | ") == 2 and posed.read_text().count("| `dense` | ") == 6
    windows = json.loads((RESULTS / "streaming/walk/long_run.json").read_text())["windows"]
    assert len(stream.read_text().splitlines()) == 2 + len(windows)


def test_plans_cover_every_method_and_can_be_parsed():
    for spec in (*ALL_PLANS, *FEW_PLANS):
        Plan.parse(spec, 8)
    assert {spec.partition(":")[0] for spec in ALL_PLANS} >= {"dense", "frame", *METHODS}
    assert len(set(ALL_PLANS)) == len(ALL_PLANS)
