"""Every command of the pages on evaluation is one that the program takes; none overwrites another result."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from manyview.attention.plan import Plan
from manyview.cli.evaluate_dataset import split_plans
from manyview.cli.main import _parse
from manyview.datasets import TITLES, dataset_named
from manyview.evaluate.protocols.published import PROTOCOLS, protocol_named
from manyview.evaluate.runner.streamed import streamed_plans
from tests.models.tiny import tiny_vggt

_DOCS = Path(__file__).parents[3] / "docs"


def commands(page: str) -> list[list[str]]:
    """The words of every command in a fenced block that is no synopsis ([...], DATASET)."""
    text = (_DOCS / page).read_text(encoding="utf-8")
    lines = [
        line
        for block in re.findall(r"```\w*\n(.*?)```", text, re.S)
        for line in block.replace("\\\n", " ").splitlines()
    ]
    found = [
        shlex.split(line, comments=True)
        for line in lines
        if line.startswith(("manyview evaluate", "manyview bench"))
    ]
    return [words[1:] for words in found if "DATASET" not in words and not any("[" in word for word in words)]


def options(words: list[str]) -> dict[str, list[str]]:
    """Values by option; what stands before the first option is under ""."""
    found: dict[str, list[str]] = {"": []}
    for word in words:
        if word.startswith("--"):
            found[word] = []
        else:
            found[list(found)[-1]].append(word)
    return found


def global_layers(given: dict[str, list[str]]) -> int:
    return 18 if "Pi3" in given["--model"][0] else 24


@pytest.mark.parametrize("page", ["evaluation.md", "evaluation-posed.md", "evaluation-synthetic.md"])
def test_every_command_is_understood(page: str) -> None:
    found = commands(page)
    assert found
    written, shapes = [], set()
    for words in found:
        given = options(words)
        datasets = [word for word in given[""] if word in TITLES]
        # The parser takes a sixth of a second, so lines with the same options go through it once.
        shape = (*(word for word in given[""] if word not in TITLES), *given)
        if shape not in shapes:
            assert _parse(words), words
            shapes.add(shape)
        plans = split_plans(given.get("--accel", ()))
        if datasets or given[""] == ["bench"]:
            for plan in plans:
                Plan.parse(plan, global_layers(given))
        if not datasets:
            continue
        protocol, dataset = given.get("--protocol", ["default"])[0], dataset_named(datasets[0])
        protocol_named(protocol).frames_of(dataset.name)
        if (split := protocol_named(protocol).split_of(dataset.name)) is not None:
            assert dataset.split(split)
        if "--stream" in given:
            assert streamed_plans(tiny_vggt(), plans) and not protocol_named(protocol).point_head
        if "--out" in given:
            written.append((*given["--out"], dataset.name, protocol))
    assert len(set(written)) == len(written)
    if page == "evaluation.md":
        assert len(written) > 60


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
