"""Tests. `checked` checks shapes and types of every call of the package in them (see pyproject.toml)."""

from __future__ import annotations

from beartype import BeartypeConf, beartype

checked = beartype(conf=BeartypeConf(is_pep484_tower=True))
"""beartype, with an int where a float is expected, as PEP 484 and type checkers have it."""
