"""Every command of the pages on evaluation is one that the program takes; none overwrites another result."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from manyview.attention.plan import Plan
from manyview.cli.evaluate import EvaluateCommand
from manyview.cli.evaluate_dataset import EvaluateDataset, split_plans
from manyview.cli.main import _parse
from manyview.datasets import dataset_named
from manyview.evaluate.protocols.published import PROTOCOLS, protocol_named

_DOCS = Path(__file__).parents[3] / "docs"


def commands(page: str) -> list[list[str]]:
    """The words of every command in a fenced block that is no synopsis ([...], DATASET)."""
    text = (_DOCS / page).read_text(encoding="utf-8")
    lines = [
        line
        for block in re.findall(r"```\w*\n(.*?)```", text, re.S)
        for line in block.replace("\\\n", " ").splitlines()
    ]
    found = [shlex.split(line, comments=True) for line in lines if line.startswith("manyview evaluate")]
    return [words[1:] for words in found if "DATASET" not in words and not any("[" in word for word in words)]


@pytest.mark.parametrize("page", ["evaluation.md", "evaluation-posed.md", "evaluation-synthetic.md"])
def test_every_command_is_understood(page: str) -> None:
    found = commands(page)
    assert found
    written = []
    for words in found:
        command = _parse(words)
        assert isinstance(command, EvaluateCommand), words
        one = command.what
        if not isinstance(one, EvaluateDataset):
            continue
        protocol_named(one.protocol).frames_of(dataset_named(one.dataset).name)
        for plan in split_plans(one.accel):
            Plan.parse(plan, 24)
        if one.out is not None:
            written.append((one.out, one.dataset, one.protocol))
    assert len(set(written)) == len(written)
    if page == "evaluation.md":
        assert len(written) > 40


def test_every_protocol_of_a_paper_has_a_command() -> None:
    text = (_DOCS / "evaluation.md").read_text(encoding="utf-8")
    for name in PROTOCOLS:
        known = name == "default" or re.sub(r"-\d+$", "", name) in text
        assert known, f"docs/evaluation.md does not name {name}"


def test_both_spellings_of_a_comparison() -> None:
    one, two = (
        _parse(["evaluate", how, "a.json", "b.json", "--csv", "c"]) for how in ("compare", "--compare")
    )
    assert one == two and [path.name for path in one.what.results] == ["a.json", "b.json"]
