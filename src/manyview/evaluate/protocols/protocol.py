"""What a protocol is: on what it runs, what it measures, how it averages."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable, Sequence
from typing import Any, Literal

import numpy as np
from jaxtyping import Float

from ...datasets import Scene
from ...errors import UsageError
from .frames import Frames
from .measures import Figures, Measure
from .scene_pair import Grid, Needs, ScenePair

Average = Literal["scenes", "groups", "pooled", "pixels"]
ANY = "*"


@dataclasses.dataclass(frozen=True)
class Protocol:
    """What to run on, how to measure, and how to average.

    `frames` and `splits` are by dataset name, `ANY` for all others; a dataset without frames cannot be
    measured by the protocol, one without a split is used whole. `average` of the headline: mean over
    scenes, mean over the groups' means, all pairs of all scenes pooled (AUC; else over scenes), or weighted
    by compared pixels. `columns` are the figures a table shows. `image_size` None: what the weights were
    made for. `most_scenes` k: of n scenes sorted by name every floor(n / k)-th, the first k; with
    `longer_than`, k that a fixed seed draws among those of more frames. `single_images`: each chosen frame is
    a scene and a run of its own. `group_measures` are of scenes of single groups besides (`of_group`).
    `unfinished`: where a plan did not fit in memory, averages go without that scene, or without that plan.
    """

    name: str
    source: str
    says: str
    measures: tuple[Measure, ...]
    columns: tuple[str, ...]
    frames: tuple[tuple[str, Frames], ...]
    splits: tuple[tuple[str, str], ...] = ()
    average: Average = "scenes"
    grid: Grid = "network"
    size_policy: Literal["fit", "crop", "pad", "square"] = "fit"
    image_size: int | None = None
    point_head: bool = False
    most_scenes: int | None = None
    longer_than: int | None = None
    single_images: bool = False
    group_measures: tuple[tuple[str, tuple[Measure, ...]], ...] = ()
    unfinished: Literal["scene", "plan"] = "scene"

    def of_group(self, group: str) -> Protocol:
        """The protocol for scenes of a group: `group_measures` of it are among its measures."""
        more = dict(self.group_measures).get(group, ())
        return dataclasses.replace(self, measures=(*self.measures, *more), group_measures=())

    @property
    def needs(self) -> Needs:
        """The most that one of its measures needs."""
        order: tuple[Needs, ...] = ("cameras", "depth", "points")
        return max((measure.needs for measure in self.measures), key=order.index, default="cameras")

    @property
    def needs_cameras(self) -> bool:
        """Whether a frame without a true camera is of no use to it."""
        return any(measure.needs != "depth" for measure in self.measures)

    def frames_of(self, dataset: str) -> Frames:
        """UsageError for a dataset that the protocol is not for."""
        known = dict(self.frames)
        if dataset not in known and ANY not in known:
            raise UsageError(
                f"the protocol {self.name} is not for {dataset}; it is for {', '.join(known)}, and the "
                "protocol default for all"
            )
        return known.get(dataset) or known[ANY]

    def scenes_of(self, scenes: Sequence[Scene], frames_in: Callable[[Scene], int]) -> tuple[Scene, ...]:
        """Those it takes of all there are; `frames_in` counts the frames of one."""
        if self.longer_than is not None:
            in_order = sorted(scenes, key=lambda scene: scene.name)
            drawn = (in_order[index] for index in np.random.RandomState(0).permutation(len(in_order)))
            longer_than = self.longer_than
            long = (scene for scene in drawn if frames_in(scene) > longer_than)
            return tuple(sorted(itertools.islice(long, self.most_scenes), key=lambda scene: scene.name))
        if self.most_scenes is None or len(scenes) <= self.most_scenes:
            return tuple(scenes)
        by_name = sorted(scenes, key=lambda scene: scene.name)
        return tuple(by_name[:: len(by_name) // self.most_scenes][: self.most_scenes])

    def split_of(self, dataset: str) -> str | None:
        """The name of the split it uses; None: every scene there is."""
        return dict(self.splits).get(dataset)

    def figures(self, pair: ScenePair, workers: int = -1) -> Figures:
        """Everything that it measures of a pair; figures of cameras are None where the truth has none."""
        known, figures = cameras_known(pair.true_cameras), Figures()
        for measure in self.measures:
            if known or measure.needs != "cameras":
                figures |= measure.figures(pair, workers)
            else:
                identity = np.repeat(np.eye(4)[None, :3], len(pair.true_cameras), 0)
                any_cameras = dataclasses.replace(pair, true_cameras=identity)
                figures |= dict.fromkeys(measure.figures(any_cameras, workers))
        return figures

    def to_json(self) -> dict[str, Any]:
        """All settings as JSON types, measures with their names."""

        def named(measures: Sequence[Measure]) -> list[dict[str, Any]]:
            return [{"measure": type(m).__name__, **dataclasses.asdict(m)} for m in measures]

        frames = {name: dataclasses.asdict(rule) for name, rule in self.frames}
        return {
            **{f.name: getattr(self, f.name) for f in dataclasses.fields(self)},
            "measures": named(self.measures),
            "group_measures": {group: named(some) for group, some in self.group_measures},
            "frames": frames,
            "splits": dict(self.splits),
            "columns": list(self.columns),
        }


def cameras_known(cam_from_world: Float[np.ndarray, "views 3 4"]) -> bool:
    """Datasets of depth alone have NaN for cameras."""
    return bool(np.isfinite(cam_from_world).all())
