"""The page of a method has its options with their defaults, and as a formula the cost that plans predict."""

from __future__ import annotations

import dataclasses
import math
import re
from pathlib import Path

import pytest

from manyview.attention.layout import TokenLayout
from manyview.attention.methods import METHODS
from manyview.attention.plan import Plan
from manyview.attention.plan_spec import _text, preset_class

PAGES = Path(__file__).parents[2] / "docs" / "methods"
DIM, DEPTH = 96, 24


def page_of(name: str) -> str:
    return (PAGES / f"{name}.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", METHODS)
def test_the_page_has_every_option_and_its_default(name: str) -> None:
    kind, page = preset_class(name), page_of(name)
    assert kind.name == name and kind.about
    assert all(number in page for number in re.findall(r"\d{4}\.\d{5}", kind.paper))
    listed = re.findall(r"^\| `(\w+)` \| (\S+) \|", page, re.MULTILINE)
    assert listed == [(field.name, _text(field.default)) for field in dataclasses.fields(kind)]


@pytest.mark.parametrize("frames", [70, 450])
@pytest.mark.parametrize("name", ["dense", "frame", *METHODS])
def test_the_formula_is_the_cost_of_the_plan(name: str, frames: int) -> None:
    layout = TokenLayout(frames, 5, (11, 14))
    names = {"S": frames, "n": 5, "h": 11, "w": 14, "P": layout.tokens_per_frame, "N": layout.tokens}
    found = {**names, "C": DIM, "L": DEPTH, "ceil": math.ceil, "floor": math.floor}
    page = page_of("dense" if name == "frame" else name)
    formula = re.findall(r"^## Cost\n\n```python\n(.*?)```", page, re.MULTILINE | re.DOTALL)
    exec(formula[0], found)
    cost = Plan.parse(name, DEPTH).cost(layout, DIM)
    assert found["frame" if name == "frame" else "attention"] == pytest.approx(cost.attention_flops, rel=1e-3)
    assert found.get("matching", 0) == pytest.approx(cost.extra_flops, rel=0.02)
