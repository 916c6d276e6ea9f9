"""A model under several plans on the scenes of a dataset, by one protocol, with dense always beside them."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np

from ..attention.plan import Plan
from ..errors import InputError, ManyViewError, MemoryLimitError
from ..models.network import Network
from ..reconstruction.engine import ReconstructOptions, prepare, reconstruct
from .compare_plans import AUTO, DENSE
from .datasets import Dataset, Scene, split_scenes
from .evaluation import Evaluation, PlanRow, SceneRows
from .evaluation_settings import digest, evaluation_settings, inputs_digest, run_options
from .frames import Frames
from .ply_vertices import read_vertices
from .posed_sets import PosedSet
from .protocol import Protocol
from .references import reference_names
from .references.rows import figures_of, reference_row, reference_settings
from .scene_pair import pair_of


def evaluate_dataset(
    model: Network,
    dataset: Dataset,
    root: str | Path,
    protocol: Protocol,
    plans: Sequence[str] = (),
    only: Sequence[str] = (),
    frames: Frames | Mapping[str, Sequence[str]] | None = None,
    options: ReconstructOptions | None = None,
    earlier: Sequence[SceneRows] = (),
    workers: int = -1,
    progress: Callable[[int, int], None] | None = None,
    on_scene: Callable[[Evaluation], None] | None = None,
    references: Sequence[str] = (),
    reference_folder: Path | None = None,
) -> Evaluation:
    """Run dense and every plan on the protocol's frames of each scene, and measure.

    `only` names scenes or patterns instead of the protocol's split; `frames` replaces its rule, or lists
    names of pictures by scene. Of `options` only image size, device, precision and memory limit are used.
    Rows of `earlier` scenes whose key is the same are taken over. A plan that does not fit in memory gives a
    row that says so. `references` (identity, mean-step, colmap) are rows on the same frames beside the plans;
    `reference_folder` keeps what COLMAP found for other runs. `progress` hears (passes done, all), `on_scene`
    what there is after each scene. Errors: UsageError for an impossible plan or a dataset that the protocol
    is not for, InputError for what is missing, before anything runs.
    """
    specs, beside = tuple(dict.fromkeys((DENSE, *plans))), reference_names(references)
    rows_a_scene = len(specs) + len(beside)
    for spec in specs:
        if spec != AUTO:
            Plan.parse(spec, model.config.depth)
    settings = evaluation_settings(model, dataset, protocol, frames, options)
    options = run_options(options, protocol)
    rule = frames if isinstance(frames, Frames) else protocol.frames_of(dataset.name)
    split = protocol.split_of(dataset.name)
    scenes = dataset.scenes(root, split_scenes(dataset.name, split) if split else (), only)
    if not only:
        scenes = protocol.scenes_of(scenes)
    sets = [(scene, *_chosen(dataset, scene, rule, frames)) for scene in scenes]
    known = {row.key: row for scene in earlier for row in scene.rows if row.failed is None}
    result = Evaluation(settings, {"plans": list(specs), "references": list(beside), "root": str(root)})
    for number, (scene, posed, total) in enumerate(sets):
        if protocol.needs == "cameras":
            posed = dataclasses.replace(posed, depth=None)
        if protocol.needs != "points":
            posed = dataclasses.replace(posed, cloud=None)
        inputs = inputs_digest(posed)
        cloud = None if posed.cloud is None else read_vertices(posed.cloud)
        rows: list[PlanRow] = []
        for spec in (*specs, *beside):
            # What is no plan of the model is known by its own settings, and by a name that no plan has.
            what = spec if len(rows) < len(specs) else reference_settings(spec)
            key = digest([settings, what, scene.name, [path.name for path in posed.images], inputs])
            row = known.get(key)
            if row is None and len(rows) < len(specs):
                warm = number == 0 and settings["environment"]["device"].startswith("cuda")
                row = _row(model, posed, spec, key, protocol, options, cloud, workers, warm)
            elif row is None:
                row = reference_row(
                    spec, key, model, posed, protocol, options, cloud, workers, reference_folder
                )
            _check_finite(row, posed.name)
            rows.append(row)
            if progress is not None:
                progress(number * rows_a_scene + len(rows), len(sets) * rows_a_scene)
        names = tuple(path.name for path in posed.images)
        done = SceneRows(scene.name, scene.group, total, posed.unit, names, inputs, tuple(rows), posed.notes)
        result = dataclasses.replace(result, scenes=(*result.scenes, done))
        if on_scene is not None:
            on_scene(result)
    return result


def _chosen(
    dataset: Dataset, scene: Scene, rule: Frames, lists: Frames | Mapping[str, Sequence[str]] | None
) -> tuple[PosedSet, int]:
    """(the scene's frames that are used, how many there are)."""
    posed = dataset.read(scene)
    if isinstance(lists, Mapping):
        if scene.name not in lists:
            raise InputError(f"the list of frames knows no scene {scene.name}; name the scenes with --scenes")
        places = {path.name: index for index, path in enumerate(posed.images)}
        places |= {path.stem: index for index, path in enumerate(posed.images)}
        absent = [name for name in lists[scene.name] if name not in places]
        if absent:
            raise InputError(f"{scene.folder}: has no frame {absent[0]} that the list of frames names")
        return posed.select([places[name] for name in lists[scene.name]]), len(posed)
    return posed.select(rule.choose(len(posed), scene.name)), len(posed)


def _row(
    model: Network,
    posed: PosedSet,
    spec: str,
    key: str,
    protocol: Protocol,
    options: ReconstructOptions,
    cloud: np.ndarray | None,
    workers: int,
    warm: bool,
) -> PlanRow:
    try:
        ready = prepare(list(posed.images), model, dataclasses.replace(options, accel=spec))
        if warm:
            reconstruct(ready, model)
        scene = reconstruct(ready, model)
    except MemoryLimitError as error:
        return PlanRow(spec, key, failed=str(error))
    pair = pair_of(scene, ready, posed, protocol.grid, cloud, protocol.needs)
    return PlanRow(
        spec,
        key,
        figures_of(pair, protocol, workers),
        scene.settings["accel"],
        dict(scene.timings_s),
        dict(scene.memory_bytes),
        len(posed) - len(scene),
        (*scene.notes, *pair.notes),
    )


def _check_finite(row: PlanRow, scene: str) -> None:
    if any(value is not None and not np.isfinite(value) for value in row.figures.values()):
        raise ManyViewError(f"{scene}: a figure of {row.plan} is not finite; this is an error of ManyView")
