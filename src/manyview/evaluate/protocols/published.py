"""The default protocol, and those that reproduce what single papers measure, as data: published.toml."""

from __future__ import annotations

import tomllib
from importlib import resources
from typing import Any

from ...errors import UsageError
from .frames import Frames
from .measures import MEASURES, Measure
from .protocol import Protocol

FILE = "published.toml"


def _measure(table: dict[str, Any]) -> Measure:
    """Lists become tuples, "none" is None."""
    measure = MEASURES[table.pop("measure")]
    return measure(
        **{k: tuple(v) if isinstance(v, list) else None if v == "none" else v for k, v in table.items()}
    )


def _protocol(name: str, table: dict[str, Any]) -> Protocol:
    return Protocol(
        name,
        measures=tuple(_measure(one) for one in table.pop("measures")),
        columns=tuple(table.pop("columns")),
        frames=tuple((dataset, Frames(**rule)) for dataset, rule in table.pop("frames").items()),
        splits=tuple(table.pop("splits", {}).items()),
        **table,
    )


def _read() -> dict[str, Protocol]:
    text = resources.files(__package__).joinpath(FILE).read_text(encoding="utf-8")
    return {name: _protocol(name, table) for name, table in tomllib.loads(text).items()}


PROTOCOLS = _read()
POSED = PROTOCOLS.pop("posed-v1")
"""Of `evaluate_posed`; its options decide how images are sized."""


def protocol_named(name: str) -> Protocol:
    """UsageError for an unknown one."""
    if name not in PROTOCOLS:
        raise UsageError(f"there is no protocol {name!r}; choose one of {', '.join(PROTOCOLS)}")
    return PROTOCOLS[name]
