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
class ExportChoice:
    """What exports hold; each option is for the formats that have it."""

    min_conf_percentile: float | None = None
    """Leave out points below this percentile of confidence."""
    max_points: int | None = None
    """At most this many points."""
    fill: int | None = None
    """colmap: fill up to this many points with unobserved ones of single views, which initialise splats."""
    images: Literal["copy", "transparent", "none"] | None = None
    """colmap and nerfstudio: write the source images beside the cameras (copy), with masked pixels
    transparent (PNG), or not (none)."""
    downscale: tuple[int, ...] = ()
    """colmap and nerfstudio: also write the images reduced by these factors, to images_2/, images_4/, ..."""
    files: Literal["both", "binary", "text"] | None = None
    """colmap: form of the model."""
    depth: bool = False
    """nerfstudio: also write depth maps, in the size of the images."""
    original_resolution: bool = False
    """depth: maps in pixels of the source images (nearest value) instead of the network's."""
    counts_per_unit: float | None = None
    """depth: PNG values per unit of depth; default: the largest that fits."""
    compress: bool = False
    """npz: compressed, about half the size, many times slower."""

    def options(self, formats: Sequence[str]) -> dict[str, Any]:
        """Options of each of the formats. Raises UsageError for one that none of them has."""
        from ..errors import UsageError

        given = {name: value for name, value in vars(self).items() if value is not None}
        wanted = {name: value for name, value in given.items() if value is not False and value != ()}
        chosen = {name: _with_options(FORMATS[name].options(), wanted) for name in formats}
        for option in wanted:
            if not any(option in used for _, used in chosen.values()):
                flag = "--" + option.replace("_", "-")
                raise UsageError(
                    f"{flag} means nothing to {' and '.join(formats) or 'no export'}; leave it out"
                )
        return {name: given for name, (given, _) in chosen.items()}


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
    how: ExportChoice = dataclasses.field(default_factory=ExportChoice)

    def run(self) -> int:
        from ..export import check_formats
        from ..reconstruction.result.load import load_reconstruction

        check_formats(list(self.to))
        options = self.how.options(self.to)
        scene = load_reconstruction(self.result)
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
    """Export to each of `formats` (names, or options by name); print the files and what exporters report."""
    from ..export import export

    told: dict[str, None] = {}  # what several exports tell is printed once
    for name in formats:
        options = formats[name] if isinstance(formats, Mapping) else None
        lines: list[str] = []
        files = export(
            scene, folder, name, options, overwrite=overwrite, progress=partial(bars, name), tell=lines.append
        )
        say(written(name, files, folder))
        for line in lines:
            if line not in told:
                say(line)
        told |= dict.fromkeys(lines)


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
