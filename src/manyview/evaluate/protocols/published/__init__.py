"""The default protocol, and those that reproduce what single papers measure, quirks included: data, one
table a protocol in the files of this folder.

Numbers of different protocols must not be compared; docs/evaluation.md says which published ones disagree.
"""

from __future__ import annotations

import tomllib
from importlib import resources
from typing import Any

from ....errors import UsageError
from ..frames import Frames
from ..measures import MEASURES, Measure
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


def _whole(table: Table, tables: dict[str, Table]) -> Table:
    """The table with what it takes over from the one that `like` names."""
    own = {key: value for key, value in table.items() if key != "like"}
    return _whole(tables[table["like"]], tables) | own if "like" in table else own


def _protocol(name: str, table: Table) -> Protocol:
    made = {
        "measures": tuple(_measure(one) for one in table["measures"]),
        "columns": tuple(table["columns"]),
        "frames": tuple((dataset, Frames(**rule)) for dataset, rule in table["frames"].items()),
        "splits": tuple(table.get("splits", {}).items()),
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
