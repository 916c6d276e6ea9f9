"""Plans on posed images: the field's data sets by protocol, with dense always among them, and folders of
images."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

from ...attention.plan import Plan
from ...datasets import Dataset, Scene, read_posed_set
from ...datasets.posed_set import PosedSet
from ...errors import MemoryLimitError, UsageError
from ...models.network import Network
from ...reconstruction.run.options import ReconstructOptions
from ...refine import RefineOptions
from ...refine.refinement import refine_settings, require_pycolmap
from ...refine.stereo import StereoOptions
from ..protocols.frames import Frames
from ..protocols.protocol import Protocol
from ..protocols.published import POSED
from ..references import IDENTITY, MEAN_STEP, reference_names
from .chosen_frames import FrameLists, chosen_frames
from .loop import one_by_one, run_scenes
from .processes import measure_side_by_side
from .records import AUTO, DENSE, Evaluation, SceneRows
from .scene import PosedScene, Recipe
from .settings import evaluation_settings, posed_settings, run_options
from .streamed import StreamedPlan


def evaluate_dataset(
    model: Network,
    dataset: Dataset,
    root: str | Path,
    protocol: Protocol,
    plans: Sequence[str] = (),
    only: Sequence[str] = (),
    frames: Frames | FrameLists | None = None,
    options: ReconstructOptions | None = None,
    earlier: Sequence[SceneRows] = (),
    workers: int = -1,
    progress: Callable[[int, int], None] | None = None,
    on_scene: Callable[[Evaluation], object] | None = None,
    references: Sequence[str] = (),
    reference_folder: Path | None = None,
    jobs: int = 1,
    streams: Sequence[StreamedPlan] = (),
) -> Evaluation:
    """Run dense and every plan on the protocol's frames of each scene, and measure.

    Args:
        model: The network.
        dataset: Which data set (see `dataset_named`).
        root: The folder that it was downloaded to.
        protocol: Which frames, measures and averages (see `protocol_named`).
        plans: Plans beside dense; one that does not fit in memory gives a row that says so.
        only: Names of scenes, or patterns, in place of the protocol's split.
        frames: A rule in place of the protocol's, or names of images, or their numbers from 0, by scene.
        options: Image size, device, precision and memory limit; all else is the protocol's.
        earlier: Scenes of an earlier run; rows whose key is the same are taken over.
        workers: Threads that search nearest neighbours; -1: all cores.
        progress: Called with (rows done, all rows).
        on_scene: Called with what there is after each scene.
        references: identity, mean-step, colmap: rows on the same frames beside the plans.
        reference_folder: Keeps what COLMAP found for other runs.
        jobs: Scenes at a time, each in a process with its share of cores and memory: scenes come in the same
            order with the same keys. Call it under `if __name__ == "__main__":` in a script.
        streams: Plans as streams, a row each after the plans (see `streamed_plans`).

    Raises:
        UsageError: For an impossible plan, a data set that the protocol is not for, or streams by a protocol
            of the point head.
        InputError: For what is missing, before anything runs.
    """
    if jobs < 1:
        raise UsageError(f"at least one scene is measured at a time (jobs), not {jobs}")
    if workers < 1 and workers != -1:
        raise UsageError(f"workers is a number of threads, or -1 for all cores, not {workers}")
    if streams and protocol.point_head:
        raise UsageError(
            f"the protocol {protocol.name} compares points of the point head, which streams do not run: use "
            "one of points from depth and cameras"
        )
    specs = _checked_plans(model, (DENSE, *plans))
    settings = evaluation_settings(model, dataset, protocol, frames, options)
    rule = frames if isinstance(frames, Frames) else protocol.frames_of(dataset.name)
    found = dataset.scenes(root, protocol.split_of(dataset.name), only)
    how = Recipe(
        settings,
        protocol,
        specs,
        reference_names(references),
        run_options(model, protocol, options),
        reference_folder,
        workers,
        streams=tuple(streams),
    )
    known = {scene.name: {row.key: row for row in scene.rows if row.failed is None} for scene in earlier}
    scenes: list[PosedScene] = []
    taken = found if only else protocol.scenes_of(found, lambda scene: len(dataset.read(scene)))
    lists = None if frames is None or isinstance(frames, Frames) else frames
    sets = chosen_frames(dataset, root, protocol, taken, rule, lists)
    for scene, (chosen, total) in _single_images(taken, sets) if protocol.single_images else zip(taken, sets):
        # On CUDA the first pass of a process compiles and tunes.
        warm = not scenes and settings["environment"]["device"].startswith("cuda")
        scenes.append(
            PosedScene(scene.name, chosen, total, how, scene.group, known.get(scene.name, {}), warm)
        )
    context = {
        "plans": list(specs),
        "streams": [stream.to_json() for stream in streams],
        "references": list(how.references),
        "root": str(root),
    }
    side_by_side = jobs > 1 and len(scenes) > 1
    measure = partial(measure_side_by_side, jobs=jobs) if side_by_side else one_by_one
    return run_scenes(model, scenes, Evaluation(settings, context), progress, on_scene, measure)


def evaluate_posed(
    model: Network,
    folders: Sequence[str | Path],
    plans: Sequence[str] = ("dense", "frame"),
    views: int = 24,
    seed: int = 0,
    options: ReconstructOptions | None = None,
    progress: Callable[[int, int], None] | None = None,
    on_scene: Callable[[Evaluation], object] | None = None,
    references: Sequence[str] = (IDENTITY, MEAN_STEP),
    reference_folder: Path | None = None,
    refine: RefineOptions | None = None,
    stereo: StereoOptions | None = None,
) -> Evaluation:
    """Run every plan on folders of images with known cameras, by the protocol `POSED`.

    Images are read, sized and run as `reconstruct` does, so what is measured is what users get.

    Args:
        model: The network.
        folders: Folders in any format that `read_posed_set` knows.
        plans: Plans, one row each.
        views: At most this many evenly spread views of each folder.
        seed: Of the camera centres of the baseline identity.
        options: Those of a reconstruction; its plan and sampling are replaced, and reading is strict.
        progress: Called with (rows done, all rows).
        on_scene: Called with what there is after each folder.
        references: identity, mean-step, colmap: rows after the plans.
        reference_folder: Keeps what COLMAP found for other runs.
        refine: A second row of every plan, of its result after `manyview.refine` with these options.
        stereo: There also measured depth, like this.

    Raises:
        UsageError: For fewer than 2 views, no plan, or an impossible one.
        InputError: For a folder that cannot be used, before anything runs, or an image that its EXIF tag
            rotates.
        MemoryLimitError: For a plan that does not fit in memory.
    """
    if views < 2 or not plans or not folders:
        raise UsageError("an evaluation needs at least one folder, one plan and 2 views")
    specs, beside = _checked_plans(model, plans), reference_names(references)
    sets = [read_posed_set(folder).spread(views) for folder in folders]
    options = dataclasses.replace(options or ReconstructOptions(), strict=True)
    settings = posed_settings(model, specs, views, seed, options) | {"references": list(beside)}
    if refine is not None:
        require_pycolmap()
        settings["refine"] = refine_settings(refine, None, stereo)
    how = Recipe(
        settings, POSED, specs, beside, options, reference_folder, seed=seed, refine=refine, stereo=stereo
    )
    scenes = [PosedScene(posed.name, posed, len(posed), how) for posed in sets]

    def keep(so_far: Evaluation) -> None:
        failed = next((row.failed for row in so_far.scenes[-1].rows if row.failed is not None), None)
        if failed is not None:
            raise MemoryLimitError(failed)
        if on_scene is not None:
            on_scene(so_far)

    return run_scenes(model, scenes, Evaluation(settings, {}), progress, keep)


def _single_images(
    scenes: Sequence[Scene], sets: Sequence[tuple[PosedSet, int]]
) -> Iterator[tuple[Scene, tuple[PosedSet, int]]]:
    """Every chosen frame as a scene."""
    for scene, (chosen, _) in zip(scenes, sets):
        for index, path in enumerate(chosen.images):
            name = f"{scene.name}/{path.stem}" if len(chosen) > 1 else scene.name
            one = dataclasses.replace(chosen.select([index]), name=name)
            yield dataclasses.replace(scene, name=name), (one, 1)


def _checked_plans(model: Network, plans: Sequence[str]) -> tuple[str, ...]:
    """Each once. UsageError for an impossible one."""
    specs = tuple(dict.fromkeys(plans))
    for spec in specs:
        if spec != AUTO:
            Plan.parse(spec, model.config.depth)
    return specs
