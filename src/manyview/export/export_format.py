"""What a module of an export format declares, and what it is given."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .._option_checks import check_options
from ..errors import UsageError
from ..files.staging import StagedFiles, staged_files

if TYPE_CHECKING:
    from ..reconstruction.result.points import PointCloud
    from ..reconstruction.result.result import Reconstruction


@dataclasses.dataclass
class ExportTarget:
    """Where an export is written. `progress` takes (done, total); `written` are the files of `staged`.

    `tell` takes a line that a person should read: a command line that uses the files, or what is odd about
    them.
    """

    out_dir: Path
    format: str
    record: Mapping[str, Any]
    overwrite: bool
    progress: Callable[[int, int], None]
    tell: Callable[[str], None] = lambda line: None
    written: list[Path] = dataclasses.field(default_factory=list)

    @contextlib.contextmanager
    def staged(self, needed_bytes: int, exact_folders: Sequence[str] = ()) -> Iterator[StagedFiles]:
        """Write the files of the block together or not at all; see `files.staging.staged_files`."""
        with staged_files(
            self.out_dir,
            self.format,
            self.record,
            needed_bytes=needed_bytes,
            overwrite=self.overwrite,
            exact_folders=exact_folders,
        ) as stage:
            yield stage
        self.written = stage.written


@dataclasses.dataclass(frozen=True)
class ExportFormat:
    """One export format: the module that defines it as `FORMAT` is listed in `formats._MODULES`.

    `about` completes the help text, `options` is a frozen dataclass with defaults for every field.
    """

    name: str
    about: str
    options: type[Any]
    write: Callable[[Reconstruction, Any, ExportTarget], None]


@dataclasses.dataclass(frozen=True)
class PointOptions:
    """Which points of the reconstruction are exported."""

    min_conf_percentile: float = 50.0
    """Leave out the least confident points: this percentile of all valid pixels."""
    max_points: int | None = None
    """At most this many points, chosen at random; None for all."""
    drop_edges: float | None = 0.1
    """Leave out pixels whose depth differs by more than this share from a neighbour's; None keeps them."""

    def __post_init__(self) -> None:
        check_options(self, at_least={"max_points": 1})

    def cloud(self, scene: Reconstruction) -> PointCloud:
        """The points of `scene` that these options choose."""
        return scene.point_cloud(self.min_conf_percentile, self.max_points, drop_edges=self.drop_edges)


def check_choice(format: str, option: str, value: str, choices: tuple[str, ...]) -> None:
    """Raise UsageError if an option of `format` is none of `choices`."""
    if value not in choices:
        raise UsageError(f"{format}: {option} must be one of {', '.join(choices)}, not {value!r}")
