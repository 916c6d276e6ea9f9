"""Options of one scene, whatever its input, and the command that they make."""

from __future__ import annotations

import dataclasses
from typing import Any, Literal, TypeVar

from ..refine.options import RefineOptions
from .export import ExportChoice, ExportNames, chosen_formats
from .options import ModelChoice, RunChoice, SingleViewChoice


@dataclasses.dataclass(frozen=True, kw_only=True)
class SceneChoice:
    """How one scene is reconstructed, whatever its input: what `reconstruct`, `batch` and `serve` share."""

    to: ExportNames = ("ply", "report")
    model: ModelChoice = dataclasses.field(default_factory=ModelChoice)
    how: RunChoice = dataclasses.field(default_factory=RunChoice)
    single_view: SingleViewChoice = dataclasses.field(default_factory=SingleViewChoice)
    refine: Literal["none", "cameras", "depth"] = "none"
    """Exact cameras afterwards, from the original images (--refine alone), and depth that they confirm
    (--refine depth); see `manyview refine`."""
    depth_size: int | None = None
    """Longer side of the depth maps of --refine depth in pixels; default: 512."""
    refining: RefineOptions = dataclasses.field(default_factory=RefineOptions)
    exports: ExportChoice = dataclasses.field(default_factory=ExportChoice)


Command = TypeVar("Command", bound=SceneChoice)


def scene_command(choice: SceneChoice, kind: type[Command], **more: Any) -> Command:
    """The command (`Reconstruct`) that makes one scene like this; UsageError for options that cannot be."""
    shared = {field.name: getattr(choice, field.name) for field in dataclasses.fields(SceneChoice)}
    command: Any = kind(**shared, **more)
    command.exports.options(chosen_formats(command.to))
    command.refinement()
    return command  # type: ignore[no-any-return]
