"""Tables of the first pages that a reader trusts: names, sizes, extras, commands."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

from manyview.cli.main import COMMANDS

ROOT = Path(__file__).parents[2]


def rows(page: str, title: str) -> list[list[str]]:
    """The cells of the first table whose head begins with `title`."""
    text = (ROOT / page).read_text(encoding="utf-8")
    table = text[text.index(f"| {title} |") :].partition("\n\n")[0]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines()[2:]]


def test_models_of_the_readme_are_those_of_the_documentation() -> None:
    known = {row[0]: row for row in rows("docs/models.md", "name")}
    told = set()
    for names, weights, licence, use in rows("README.md", "name"):
        for name in set(re.findall(r"`([\w-]+)`", names)) - {"auto"}:
            _, where, size, full_licence, right_use, *_ = known[name]
            assert weights == where or size.split()[0] in weights, name
            assert full_licence.startswith(licence) and use.startswith(right_use), name
            told.add(name)
    assert told == known.keys()


def test_the_readme_stays_short() -> None:
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) <= 90


def test_every_extra_is_explained() -> None:
    with (ROOT / "pyproject.toml").open("rb") as file:
        extras = tomllib.load(file)["project"]["optional-dependencies"]
    told = {row[0].strip("`") for row in rows("docs/install.md", "extra")}
    assert told == extras.keys() - {"dev", "docs", "hub"}


def test_every_command_is_shown() -> None:
    page = (ROOT / "docs" / "command-line.md").read_text(encoding="utf-8")
    assert [verb for verb in COMMANDS if f"\nmanyview {verb}" not in page] == ["demo"]
