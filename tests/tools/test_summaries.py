"""Pages of docs/results are what the tools make of the JSON beside them, and plans cover every method."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from tools.results import batch, flash_table, posed_summary, procedural, ranks, ranks_measured, tables
from tools.results.excerpts import excerpts
from tools.results.marks import fill_marks
from tools.results.plans import ALL_PLANS, FEW_PLANS, MODELS

from manyview.attention.methods import METHODS
from manyview.attention.plan import Plan

ROOT = Path(__file__).resolve().parents[2]
RESULTS = ROOT / "docs" / "results"


@pytest.mark.parametrize("model", procedural.models_with_summary(RESULTS))
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


@pytest.mark.parametrize("name", tables.PAGES)
def test_excerpts_in_pages_are_those_of_the_results(name, tmp_path):
    text, copy = (ROOT / name).read_text(), tmp_path / "page.md"
    copy.write_text(text)
    assert fill_marks(copy, "results", excerpts(RESULTS))
    assert copy.read_text() == text


def test_the_page_of_batches():
    data = json.loads((RESULTS / "batch" / "batch.json").read_text())
    assert (RESULTS / "batch" / "batch.md").read_text() == batch.page(data)


def test_the_page_of_ranks():
    assert (RESULTS / "ranks" / "ranks.md").read_text() == ranks.of_folder(RESULTS / "ranks")
    data = json.loads((RESULTS / "ranks" / "ranks.json").read_text())
    assert {row["plan"] for row in data["rows"]} == {"dense", *METHODS}


def test_the_table_of_measured_ranks():
    figures = {"forward_s": 2.0, "all_s": 3.0, "received_bytes": 0, "expected_bytes": 2**28}
    cases = [
        {
            **vars(case),
            **figures,
            "baseline_bytes": [2**27] * case.processes,
            "peak_bytes": [2**28] * case.processes,
        }
        for case in ranks_measured.cases((4,))
    ]
    data = {"command": "this", "cpu": "CPU", "cores": 2, "torch": "2", "repeats": 1, "cases": cases}
    rows = [line for line in ranks_measured.section(data) if line.startswith("| 4 ")]
    assert len(rows) == len(cases) == 9 and sum("100 %" in row for row in rows) == 6


def test_plans_cover_every_method_and_can_be_parsed():
    for spec in (*ALL_PLANS, *FEW_PLANS):
        Plan.parse(spec, 8)
    assert {spec.partition(":")[0] for spec in ALL_PLANS} >= {"dense", "frame", *METHODS}
    assert len(set(ALL_PLANS)) == len(ALL_PLANS)
