"""`manyview export OUT --to colmap ply glb npz`."""

from __future__ import annotations

import dataclasses
from functools import partial
from pathlib import Path
from typing import Literal

import tyro

from .console import Bars, say, written


@dataclasses.dataclass(frozen=True)
class Export:
    """Write a reconstruction in formats that other programs read."""

    result: tyro.conf.Positional[Path]
    """Output folder of `manyview reconstruct`."""
    to: tuple[str, ...]
    """One or more of: colmap ply glb npz depth nerfstudio overview report."""
    out: Path | None = None
    """Where to write; default: into the result folder, beside what is there."""
    overwrite: bool = False
    """Replace earlier exports; other files are never touched."""
    min_conf_percentile: float | None = None
    """Leave out points below this percentile of confidence."""
    max_points: int | None = None
    """At most this many points."""
    images: Literal["copy", "none"] | None = None
    """colmap and nerfstudio: copy the pictures beside the cameras (copy), or not (none)."""

    def run(self) -> int:
        from ..errors import UsageError
        from ..export import FORMATS, check_formats, export
        from ..reconstruction.result.load import load_reconstruction

        check_formats(list(self.to))
        scene = load_reconstruction(self.result)
        wanted = {
            name: getattr(self, name)
            for name in ("min_conf_percentile", "max_points", "images")
            if getattr(self, name) is not None
        }
        chosen = {name: export_options(FORMATS[name].options, wanted) for name in self.to}
        for option in wanted:
            if not any(option in used for _, used in chosen.values()):
                flag = "--" + option.replace("_", "-")
                raise UsageError(f"{flag} means nothing to {' and '.join(self.to)}; leave it out")
        with Bars() as bars:
            for name, (options, _) in chosen.items():
                files = export(
                    scene,
                    self.out or self.result,
                    name,
                    options,
                    overwrite=self.overwrite,
                    progress=partial(bars, name),
                )
                say(written(name, files, self.out or self.result))
        return 0


def export_options(kind: type, wanted: dict[str, object]) -> tuple[object, set[str]]:
    """Options of one format from those of `wanted` that it has, and their names.

    Options about points may lie one level down, in those of the tracks.
    """
    own = {field.name for field in dataclasses.fields(kind)}
    values = {key: value for key, value in wanted.items() if key in own}
    used = set(values)
    if "tracks" in own:
        from ..export import TrackOptions

        inner = {field.name for field in dataclasses.fields(TrackOptions)} - own
        nested = {key: value for key, value in wanted.items() if key in inner}
        values["tracks"] = TrackOptions(**nested)  # type: ignore[arg-type]
        used |= nested.keys()
    return kind(**values), used
