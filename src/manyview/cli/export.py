"""`manyview export OUT --to colmap ply glb npz`, and the exports of other commands."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro

from ..export import FORMATS
from .console import Bars, say, written

if TYPE_CHECKING:
    from ..reconstruction.result.result import Reconstruction

_HELP = "; ".join(f"{format.name} ({format.about})" for format in FORMATS.values())

ExportNames = Annotated[
    tuple[str, ...], tyro.conf.arg(help=f"Exports to write, or none: {' '.join(FORMATS)}.")
]


@dataclasses.dataclass(frozen=True)
class Export:
    """Write a reconstruction in formats that other programs read."""

    result: tyro.conf.Positional[Path]
    """Output folder of `manyview reconstruct`."""
    to: Annotated[tuple[str, ...], tyro.conf.arg(help=f"One or more of: {_HELP}.")]
    out: Path | None = None
    """Where to write; default: into the result folder, beside what is there."""
    overwrite: bool = False
    """Replace earlier exports; other files are never touched."""
    min_conf_percentile: float | None = None
    """Leave out points below this percentile of confidence."""
    max_points: int | None = None
    """At most this many points."""
    images: Literal["copy", "none"] | None = None
    """colmap and nerfstudio: write the source images beside the cameras (copy), or not (none)."""
    original_resolution: bool = False
    """depth: maps in pixels of the source images (nearest value) instead of the network's."""

    def run(self) -> int:
        from ..errors import UsageError
        from ..export import check_formats
        from ..reconstruction.result.load import load_reconstruction

        check_formats(list(self.to))
        scene = load_reconstruction(self.result)
        wanted = {
            name: getattr(self, name)
            for name in ("min_conf_percentile", "max_points", "images")
            if getattr(self, name) is not None
        }
        if self.original_resolution:
            wanted["original_resolution"] = True
        chosen = {name: _with_options(FORMATS[name].options(), wanted) for name in self.to}
        for option in wanted:
            if not any(option in used for _, used in chosen.values()):
                flag = "--" + option.replace("_", "-")
                raise UsageError(f"{flag} means nothing to {' and '.join(self.to)}; leave it out")
        options = {name: given for name, (given, _) in chosen.items()}
        with Bars() as bars:
            export_all(scene, self.out or self.result, options, bars, self.overwrite)
        return 0


def chosen_formats(to: Sequence[str]) -> list[str]:
    """Names of exports; ("none",) stands for none. Raises UsageError for an unknown one."""
    from ..export import check_formats

    formats = [] if tuple(to) == ("none",) else list(to)
    check_formats(formats)
    return formats


def earlier_exports(folder: Path) -> dict[str, Any]:
    """The exports in a folder that ManyView wrote, with the options that they were made with."""
    from ..files.manifest import MANIFEST_NAME, read_manifest

    found = {}
    for name, entry in read_manifest(folder / MANIFEST_NAME)["exports"].items():
        if name in FORMATS:
            found[name], _ = _with_options(FORMATS[name].options(), _flat(entry.get("options", {})))
    return found


def _flat(options: Mapping[str, Any]) -> dict[str, Any]:
    """Stored options by name, those of options within them too."""
    found: dict[str, Any] = {}
    for name, value in options.items():
        if isinstance(value, Mapping):
            found |= _flat(value)
        else:
            found[name] = tuple(value) if isinstance(value, list) else value
    return found


def export_all(
    scene: Reconstruction,
    folder: Path,
    formats: Mapping[str, Any] | list[str],
    bars: Bars,
    overwrite: bool = True,
) -> None:
    """Export to several formats, with their options if it is a mapping, and print the files written."""
    from ..export import export

    for name in formats:
        options = formats[name] if isinstance(formats, Mapping) else None
        files = export(scene, folder, name, options, overwrite=overwrite, progress=partial(bars, name))
        say(written(name, files, folder))


def _with_options(options: Any, wanted: dict[str, object]) -> tuple[Any, set[str]]:
    """`options` with those of `wanted` that they, or options within them, have; and the names used."""
    own = {field.name: getattr(options, field.name) for field in dataclasses.fields(options)}
    values = {name: value for name, value in wanted.items() if name in own}
    used = set(values)
    rest = {name: value for name, value in wanted.items() if name not in own}
    for name, inner in own.items():
        if dataclasses.is_dataclass(inner):
            values[name], found = _with_options(inner, rest)
            used |= found
    return dataclasses.replace(options, **values), used
