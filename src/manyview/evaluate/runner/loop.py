"""A model under several plans on the scenes of a dataset, by one protocol, with dense always beside them."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Generator, Mapping, Sequence
from pathlib import Path

from ...attention.plan import Plan
from ...datasets import Dataset, PosedSet, Scene, split_scenes
from ...errors import InputError, UsageError
from ...models.network import Network
from ...reconstruction.run.options import ReconstructOptions
from ..protocols.frames import Frames
from ..protocols.protocol import Protocol
from ..references import reference_names
from .processes import measure_side_by_side
from .records import AUTO, DENSE, Evaluation, PlanRow, SceneRows
from .scene import ChosenScene, SceneRecipe, measure_scene
from .settings import evaluation_settings, run_options


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
    jobs: int = 1,
) -> Evaluation:
    """Run dense and every plan on the protocol's frames of each scene, and measure.

    `only` names scenes or patterns instead of the protocol's split; `frames` replaces its rule, or lists
    names of pictures by scene. Of `options` only image size, device, precision and memory limit are used.
    Rows of `earlier` scenes whose key is the same are taken over. A plan that does not fit in memory gives a
    row that says so. `references` (identity, mean-step, colmap) are rows on the same frames beside the plans;
    `reference_folder` keeps what COLMAP found for other runs. `progress` hears (rows done, all), `on_scene`
    what there is after each scene. Errors: UsageError for an impossible plan or a dataset that the protocol
    is not for, InputError for what is missing, before anything runs.

    `jobs` scenes are measured at a time, each in a process of its own with a share of cores and memory
    (`scene_pool`): scenes come in the same order with the same keys, and a failure names its scene. Call it
    under `if __name__ == "__main__":` in a script.
    """
    if jobs < 1:
        raise UsageError(f"at least one scene is measured at a time, not {jobs}")
    specs, beside = tuple(dict.fromkeys((DENSE, *plans))), reference_names(references)
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
    chosen = [ChosenScene(scene, *_chosen(dataset, scene, rule, frames)) for scene in scenes]
    known = {scene.name: {row.key: row for row in scene.rows if row.failed is None} for scene in earlier}
    how = SceneRecipe(settings, protocol, specs, beside, options, reference_folder, workers)
    rows_done = 0

    def row_done() -> None:
        nonlocal rows_done
        rows_done += 1
        if progress is not None:
            progress(rows_done, len(chosen) * how.rows_a_scene)

    result = Evaluation(settings, {"plans": list(specs), "references": list(beside), "root": str(root)})
    done: dict[int, SceneRows] = {}
    if jobs > 1 and len(chosen) > 1:
        measured = measure_side_by_side(model, how, chosen, known, jobs, row_done)
    else:
        measured = _one_by_one(model, how, chosen, known, row_done)
    with contextlib.closing(measured):
        for place, rows in measured:
            done[place] = rows
            result = dataclasses.replace(result, scenes=tuple(done[i] for i in sorted(done)))
            if on_scene is not None:
                on_scene(result)
    return result


def _one_by_one(
    model: Network,
    how: SceneRecipe,
    chosen: Sequence[ChosenScene],
    known: Mapping[str, Mapping[str, PlanRow]],
    row_done: Callable[[], None],
) -> Generator[tuple[int, SceneRows], None, None]:
    cuda = how.settings["environment"]["device"].startswith("cuda")
    for place, one in enumerate(chosen):
        yield (
            place,
            measure_scene(model, how, one, known.get(one.scene.name, {}), cuda and place == 0, row_done),
        )


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
