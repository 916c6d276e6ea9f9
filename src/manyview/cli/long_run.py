"""A run that is expected to take long is started only when a person agrees."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ..models.network import Network
    from ..reconstruction.run.prepare import PreparedRun

LONG_S = 3600.0


def check_long_run(ready: PreparedRun, model: Network, agreed: bool) -> None:
    """Ask on a terminal whether to start a run of an hour or more; elsewhere, or if not, raise UsageError.

    `agreed`: the person said so beforehand (--yes).
    """
    from ..errors import UsageError
    from ..models.families import suited_plans
    from ..reconstruction.plan.preflight import format_duration
    from ..reconstruction.plan.shorter import shorter_ways

    seconds = ready.chosen.seconds
    if agreed or seconds is None or seconds < LONG_S:
        return
    ways = " or ".join(shorter_ways(ready.chosen, suited_plans(model)))
    what = f"this run is expected to take about {format_duration(seconds)}" + (
        f", with {ways}" if ways else ""
    )
    if sys.stdin is not None and sys.stdin.isatty() and sys.stderr is not None and sys.stderr.isatty():
        sys.stderr.write(f"{ready.chosen.sentence()}\n{what}. Start it as it is? [y/N] ")
        sys.stderr.flush()
        if sys.stdin.readline().strip().lower() in ("y", "yes"):
            return
        raise UsageError("the run was not started")
    raise UsageError(f"{what}; to start it as it is add --yes")
