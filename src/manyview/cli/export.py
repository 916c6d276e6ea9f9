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
        from ..export import FORMATS, check_formats, export
        from ..reconstruction.result_io import load_reconstruction

        check_formats(list(self.to))
        scene = load_reconstruction(self.result)
        wanted = {
            name: getattr(self, name)
            for name in ("min_conf_percentile", "max_points", "images")
            if getattr(self, name) is not None
        }
        with Bars() as bars:
            for name in self.to:
                options = export_options(FORMATS[name].options, name, wanted)
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


def export_options(kind: type, name: str, wanted: dict[str, object]) -> object:
    """The options of one format with the fields it has of `wanted`; points options may lie one level down."""
    own = {field.name: field for field in dataclasses.fields(kind)}
    values = {key: value for key, value in wanted.items() if key in own}
    if "tracks" in own:
        from ..export import TrackOptions

        inner = {f.name for f in dataclasses.fields(TrackOptions)}
        nested = {key: value for key, value in wanted.items() if key in inner and key not in own}
        if nested:
            values["tracks"] = TrackOptions(**nested)  # type: ignore[arg-type]
    return kind(**values)
