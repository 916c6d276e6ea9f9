"""What a job of `manyview serve` may choose: options of one scene, but for those that are the server's."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from .._option_checks import check_options
from ..errors import UsageError
from ..serve.options import FlatOptions
from .scene_choice import Command, SceneChoice, scene_command

SERVERS_OWN = frozenset(
    {"revision", "offline", "commercial_only", "device", "memory_limit_gib", "metric_model"}
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class JobChoice(SceneChoice):
    """How a job is reconstructed."""

    yes: bool = False
    """Start a run that is expected to take an hour or more."""


JOB_OPTIONS = FlatOptions(JobChoice, SERVERS_OWN)


def job_command(given: Mapping[str, Any], kind: type[Command], **more: Any) -> Command:
    """The command of a job with these options; UsageError for what cannot be."""
    choice: JobChoice = JOB_OPTIONS.built(given)
    check_options(choice)
    command = scene_command(choice, kind, yes=choice.yes, **more)
    command.how.options()
    return command


def check_model(asked: str | None, names: tuple[str, ...]) -> None:
    """UsageError for a job that wants another model than the one that is there under these names."""
    if asked not in (None, "auto", *names):
        raise UsageError(
            f"this server has {names[0]} in memory and no other model: leave out the option model, or start "
            "another server"
        )
