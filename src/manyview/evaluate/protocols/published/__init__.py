"""The default protocol, and those that reproduce what single papers measure, quirks included: data, one
table a protocol in the files of this folder.

Numbers of different protocols must not be compared; docs/evaluation.md says which published ones disagree.
"""

from __future__ import annotations

import re
import tomllib
from importlib import resources
from typing import Any

from ....errors import UsageError
from ..frames import Frames
from ..measures import MEASURES, FocalLength, Measure, RelativePose, Trajectory
from ..protocol import Protocol

Table = dict[str, Any]


def _measure(table: Table) -> Measure:
    """Lists become tuples."""
    options = {
        key: tuple(value) if isinstance(value, list) else value
        for key, value in table.items()
        if key != "measure"
    }
    return MEASURES[table["measure"]](**options)


def _beside_poses(measures: tuple[Measure, ...], columns: list[str]) -> tuple[tuple[Measure, ...], list[str]]:
    """With the exact area of the smallest AUC and the error of focal lengths, as both decide what poses are
    worth."""
    if not any(isinstance(measure, (RelativePose, Trajectory)) for measure in measures):
        return measures, columns
    if not any(isinstance(measure, FocalLength) for measure in measures):
        measures = (*measures, FocalLength())
    areas = sorted(int(name[4:]) for name in columns if re.fullmatch(r"auc_\d+", name))
    more = [*(f"auc_integral_{t}" for t in areas[:1]), "focal_error"]
    return measures, [*columns, *(name for name in more if name not in columns)]


def _whole(table: Table, tables: dict[str, Table]) -> Table:
    """The table with what it takes over from the one that `like` names."""
    own = {key: value for key, value in table.items() if key != "like"}
    return _whole(tables[table["like"]], tables) | own if "like" in table else own


def _protocol(name: str, table: Table) -> Protocol:
    measures = tuple(_measure(one) for one in table["measures"])
    measures, columns = _beside_poses(measures, table["columns"])
    made = {
        "measures": measures,
        "columns": tuple(columns),
        "frames": tuple((dataset, Frames(**rule)) for dataset, rule in table["frames"].items()),
        "splits": tuple(table.get("splits", {}).items()),
        "group_measures": tuple(
            (group, tuple(_measure(one) for one in some))
            for group, some in table.get("group_measures", {}).items()
        ),
    }
    return Protocol(name, **{**table, **made})


def _read() -> dict[str, Protocol]:
    files = sorted(
        (file for file in resources.files(__package__).iterdir() if file.name.endswith(".toml")),
        key=lambda file: (file.name != "default.toml", file.name),
    )
    tables: dict[str, Table] = {}
    for file in files:
        tables |= tomllib.loads(file.read_text(encoding="utf-8"))
    return {name: _protocol(name, _whole(table, tables)) for name, table in tables.items()}


PROTOCOLS = _read()
POSED = PROTOCOLS.pop("posed-v1")
"""Of `evaluate_posed`; its options decide how images are sized."""


def protocol_named(name: str) -> Protocol:
    """UsageError for an unknown one."""
    if name not in PROTOCOLS:
        raise UsageError(f"there is no protocol {name!r}; choose one of {', '.join(PROTOCOLS)}")
    return PROTOCOLS[name]
