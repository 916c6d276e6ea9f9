"""All rows of one scene: every plan and every reference on the same frames, or those of an earlier run."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from ...datasets import PosedSet, Scene
from ...errors import ManyViewError, MemoryLimitError
from ...files.ply_vertices import read_vertices
from ...models.network import Network
from ...reconstruction.run.engine import reconstruct
from ...reconstruction.run.options import ReconstructOptions
from ...reconstruction.run.prepare import prepare
from ..protocols.protocol import Protocol
from .pairing import pair_of
from .records import PlanRow, SceneRows
from .reference_rows import figures_of, reference_row, reference_settings
from .settings import digest, inputs_digest


@dataclasses.dataclass(frozen=True)
class ChosenScene:
    """A scene and those of its `total` frames that are used."""

    scene: Scene
    posed: PosedSet
    total: int


@dataclasses.dataclass(frozen=True)
class SceneRecipe:
    """How each scene of a run is measured; `settings` decide the keys of rows. `workers` threads search
    neighbours (-1: all cores), `together` scenes are measured at a time."""

    settings: Mapping[str, Any]
    protocol: Protocol
    plans: tuple[str, ...]
    references: tuple[str, ...]
    options: ReconstructOptions
    reference_folder: Path | None = None
    workers: int = -1
    together: int = 1

    @property
    def rows_a_scene(self) -> int:
        return len(self.plans) + len(self.references)


def measure_scene(
    model: Network,
    how: SceneRecipe,
    one: ChosenScene,
    known: Mapping[str, PlanRow],
    warm: bool = False,
    row_done: Callable[[], None] | None = None,
) -> SceneRows:
    """Rows of `known` whose key is the same are taken over; `warm`: each plan runs once unmeasured before."""
    posed, needs = one.posed, how.protocol.needs
    if needs == "cameras":
        posed = dataclasses.replace(posed, depth=None)
    if needs != "points":
        posed = dataclasses.replace(posed, cloud=None)
    inputs = inputs_digest(posed)
    names = tuple(path.name for path in posed.images)
    cloud = None if posed.cloud is None else read_vertices(posed.cloud)
    rows: list[PlanRow] = []
    for spec in (*how.plans, *how.references):
        # What is no plan of the model is known by its own settings, and by a name that no plan has.
        planned = len(rows) < len(how.plans)
        what = spec if planned else reference_settings(spec)
        key = digest([how.settings, what, one.scene.name, list(names), inputs])
        row = known.get(key)
        if row is None and planned:
            row = _row(model, posed, spec, key, how, cloud, warm)
        elif row is None:
            row = reference_row(
                spec, key, model, posed, how.protocol, how.options, cloud, how.workers, how.reference_folder
            )
        _check_finite(row, posed.name)
        rows.append(row)
        if row_done is not None:
            row_done()
    scene = one.scene
    return SceneRows(scene.name, scene.group, one.total, posed.unit, names, inputs, tuple(rows), posed.notes)


def _row(
    model: Network,
    posed: PosedSet,
    spec: str,
    key: str,
    how: SceneRecipe,
    cloud: Float[np.ndarray, "n 3"] | None,
    warm: bool,
) -> PlanRow:
    notes: tuple[str, ...] = ()
    if how.together > 1:
        notes = (f"seconds were taken with {how.together} scenes at a time",)
    try:
        ready = prepare(list(posed.images), model, dataclasses.replace(how.options, accel=spec))
        if warm:
            reconstruct(ready, model)
        scene = reconstruct(ready, model)
    except MemoryLimitError as error:
        shared = f" (memory is shared by {how.together} scenes: fewer --jobs)" if how.together > 1 else ""
        return PlanRow(spec, key, failed=f"{error}{shared}")
    pair = pair_of(scene, ready, posed, how.protocol.grid, cloud, how.protocol.needs)
    return PlanRow(
        spec,
        key,
        figures_of(pair, how.protocol, how.workers),
        scene.settings["accel"],
        dict(scene.timings_s),
        dict(scene.memory_bytes),
        len(posed) - len(scene),
        (*scene.notes, *pair.notes, *notes),
    )


def _check_finite(row: PlanRow, scene: str) -> None:
    if any(value is not None and not np.isfinite(value) for value in row.figures.values()):
        raise ManyViewError(f"{scene}: a figure of {row.plan} is not finite; this is an error of ManyView")
