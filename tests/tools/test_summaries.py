"""Pages of docs/results are what the tools make of the JSON beside them, and plans cover every method."""

from __future__ import annotations

from pathlib import Path

import pytest
from tools.results import posed_summary, procedural
from tools.results.plans import ALL_PLANS, FEW_PLANS, MODELS

from manyview.attention.methods import METHODS
from manyview.attention.plan import Plan

RESULTS = Path(__file__).resolve().parents[2] / "docs" / "results"


@pytest.mark.parametrize("model", MODELS)
def test_summaries_of_procedural_scenes(model):
    assert (RESULTS / model / "summary.md").read_text() == procedural.summary(RESULTS / model)


def test_the_page_of_photographs():
    assert (RESULTS / "posed.md").read_text() == posed_summary.summary(RESULTS, MODELS)


def test_plans_cover_every_method_and_can_be_parsed():
    for spec in (*ALL_PLANS, *FEW_PLANS):
        Plan.parse(spec, 8)
    assert {spec.partition(":")[0] for spec in ALL_PLANS} >= {"dense", "frame", *METHODS}
    assert len(set(ALL_PLANS)) == len(ALL_PLANS)
