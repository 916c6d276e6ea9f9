"""The command line of a tool: options from a dataclass, errors as one sentence."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Sequence
from typing import Any

import tyro

from manyview.errors import ManyViewError


def run_command(
    options: Any, run: Callable[[Any], int | None], program: str, arguments: Sequence[str] | None = None
) -> int:
    """Parse `arguments` (None: those of the process) as a dataclass, run, and return the exit status."""
    handler, said = logging.StreamHandler(), set[str]()

    def is_new(record: logging.LogRecord) -> bool:
        known = len(said)
        said.add(record.getMessage())
        return len(said) > known

    handler.addFilter(is_new)  # a warning about weights would come with every scene they are measured on
    logging.basicConfig(format="%(message)s", handlers=[handler])
    try:
        return run(tyro.cli(options, args=arguments, prog=f"python -m {program}")) or 0
    except ManyViewError as error:
        sys.stderr.write(f"{error}\n")
        return error.exit_code
