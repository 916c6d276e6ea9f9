"""A model under several plans on the scenes of a dataset, by one protocol, with dense always beside them."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

import manyview

from ..attention.plan import Plan
from ..bench.environment import describe as describe_machine
from ..errors import InputError, ManyViewError, MemoryLimitError
from ..models.network import Network
from ..reconstruction.engine import ReconstructOptions, prepare, reconstruct
from ..reconstruction.machine import pick_device, pick_dtype
from .averages import Figures, averaged
from .compare_plans import AUTO, DENSE, weights_digest
from .datasets import Dataset, Scene, split_scenes
from .frames import Frames
from .ply_vertices import read_vertices
from .posed_sets import PosedSet
from .protocols import Protocol
from .scene_pair import pair_of

FORMAT = "manyview-evaluation-1"


@dataclass(frozen=True)
class PlanRow:
    """A plan on one scene. `key` is the digest of all that decides the figures; `failed` says why there are
    none (out of memory). `accel` is the plan that ran, which for "auto" is what was chosen."""

    plan: str
    key: str
    figures: Figures = field(default_factory=dict)
    accel: str = ""
    timings_s: dict[str, float] = field(default_factory=dict)
    memory_bytes: dict[str, int] = field(default_factory=dict)
    left_out: int = 0
    notes: tuple[str, ...] = ()
    failed: str | None = None


@dataclass(frozen=True)
class SceneRows:
    """All plans on one scene: names of the frames used, of `total`, and the digest of all that was read."""

    name: str
    group: str
    total: int
    unit: str
    frames: tuple[str, ...]
    inputs_sha256: str
    rows: tuple[PlanRow, ...]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Evaluation:
    """`settings` are all that decides figures but the inputs; `context` says what else is worth knowing."""

    settings: dict[str, Any]
    context: dict[str, Any]
    scenes: tuple[SceneRows, ...] = ()

    @property
    def plans(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(row.plan for scene in self.scenes for row in scene.rows))

    def summary(self) -> dict[str, Figures]:
        """By plan: every figure, averaged as the protocol does over the scenes that every plan finished."""
        whole = [scene for scene in self.scenes if all(row.failed is None for row in scene.rows)]
        result = {}
        for plan in self.plans:
            done = [(scene, row) for scene in whole for row in scene.rows if row.plan == plan]
            figures = averaged(
                [(scene.group, row.figures) for scene, row in done], self.settings["protocol"]["average"]
            )
            seconds = [row.timings_s["forward"] for _, row in done if "forward" in row.timings_s]
            figures["forward_s"] = sum(seconds) / len(seconds) if seconds else None
            figures["scenes"] = float(len(whole))
            figures["scenes_failed"] = float(len(self.scenes) - len(whole))
            result[plan] = figures
        return result

    def to_json(self) -> dict[str, Any]:
        return {
            "format": FORMAT,
            "settings": self.settings,
            "context": self.context,
            "summary": self.summary(),
            "scenes": [dataclasses.asdict(scene) for scene in self.scenes],
        }


def digest(value: Any) -> str:
    """Of JSON types, whatever the order of their keys."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def inputs_digest(posed: PosedSet) -> str:
    """Of every byte that is read for a scene: pictures, depth maps, cloud, cameras, intrinsics."""
    whole = hashlib.sha256()
    files = [*posed.images, *(posed.depth.paths if posed.depth else ()), posed.cloud]
    for path in files:
        if path is not None:
            with path.open("rb") as file:
                whole.update(hashlib.file_digest(file, "sha256").digest())
    for array in (posed.cam_from_world, posed.intrinsics):
        whole.update(b"none" if array is None else np.ascontiguousarray(array).tobytes())
    return whole.hexdigest()


def split_plans(texts: Sequence[str]) -> tuple[str, ...]:
    """Plans given one by one or joined by commas, each once.

    A part begins a new plan unless it is an option (stride=2x2) or goes on with a range of layers (4-5:dense
    after 0-3:frame).
    """
    plans: list[str] = []
    for text in texts:
        joined = ""
        for part in text.split(","):
            head = part.strip().partition(":")[0]
            goes_on = "=" in head or (re.match(r"\d", head) and re.match(r"\d", joined))
            if joined and goes_on:
                joined += "," + part.strip()
                continue
            plans += [joined] if joined else []
            joined = part.strip()
        plans += [joined] if joined else []
    return tuple(dict.fromkeys(plans))


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
) -> Evaluation:
    """Run dense and every plan on the protocol's frames of each scene, and measure.

    `only` names scenes or patterns instead of the protocol's split; `frames` replaces its rule, or lists
    names of pictures by scene. Of `options` only image size, device, precision and memory limit are used.
    Rows of `earlier` scenes whose key is the same are taken over. A plan that does not fit in memory gives a
    row that says so. `progress` hears (passes done, all), `on_scene` what there is after each scene. Errors:
    UsageError for an impossible plan or a dataset that the protocol is not for, InputError for what is
    missing, before anything runs.
    """
    specs = tuple(dict.fromkeys((DENSE, *plans)))
    for spec in specs:
        if spec != AUTO:
            Plan.parse(spec, model.config.depth)
    settings = evaluation_settings(model, dataset, protocol, frames, options)
    options = _options(options, protocol)
    rule = frames if isinstance(frames, Frames) else protocol.frames_of(dataset.name)
    split = protocol.split_of(dataset.name)
    scenes = dataset.scenes(root, split_scenes(dataset.name, split) if split else (), only)
    if not only:
        scenes = protocol.scenes_of(scenes)
    sets = [(scene, *_chosen(dataset, scene, rule, frames)) for scene in scenes]
    known = {row.key: row for scene in earlier for row in scene.rows if row.failed is None}
    result = Evaluation(settings, {"plans": list(specs), "root": str(root)})
    for number, (scene, posed, total) in enumerate(sets):
        inputs = inputs_digest(posed)
        cloud = None if posed.cloud is None else read_vertices(posed.cloud)
        rows = []
        for spec in specs:
            key = digest([settings, spec, scene.name, [path.name for path in posed.images], inputs])
            row = known.get(key)
            if row is None:
                warm = number == 0 and settings["environment"]["device"].startswith("cuda")
                row = _row(model, posed, spec, key, protocol, options, cloud, workers, warm)
            rows.append(row)
            if progress is not None:
                progress(number * len(specs) + len(rows), len(sets) * len(specs))
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


def _options(options: ReconstructOptions | None, protocol: Protocol) -> ReconstructOptions:
    options = options or ReconstructOptions()
    return ReconstructOptions(
        size_policy=protocol.size_policy,
        image_size=options.image_size or protocol.image_size,
        point_head=protocol.point_head,
        device=options.device,
        precision=options.precision,
        memory_limit_gib=options.memory_limit_gib,
        strict=True,
    )


def evaluation_settings(
    model: Network,
    dataset: Dataset,
    protocol: Protocol,
    frames: Frames | Mapping[str, Sequence[str]] | None = None,
    options: ReconstructOptions | None = None,
) -> dict[str, Any]:
    """All that decides figures but inputs and plan, as JSON types, of such an `evaluate_dataset`."""
    options = _options(options, protocol)
    device = pick_device(options.device)
    config = model.config
    machine = describe_machine(
        device, pick_dtype(device, options.precision), config.num_heads, config.dim // config.num_heads
    )
    # What decides a figure; not how busy or large the machine is.
    kept = ("device", "device_name", "precision", "attention_kernel", "torch", "manyview")
    if isinstance(frames, Mapping):
        chosen: Any = {name: list(names) for name, names in frames.items()}
    else:
        chosen = dataclasses.asdict(frames or protocol.frames_of(dataset.name))
    settings = {
        "dataset": dataset.name,
        "protocol": protocol.to_json(),
        "frames": chosen,
        "model": model.name,
        "weights_sha256": weights_digest(model),
        "image_size": options.image_size or config.image_size,
        "size_policy": options.size_policy,
        "environment": {name: machine[name] for name in kept} | {"numpy": np.__version__, "scipy": _scipy()},
        "code_sha256": code_digest(),
    }
    # As it reads back from a file: tuples become lists.
    return json.loads(json.dumps(settings))


def code_digest() -> str:
    """Of the package's modules that can change a figure: a version number does not tell edits in between."""
    package = Path(manyview.__file__).parent
    aside = ("cli", "export", "train", "analyze", "bench")
    whole = hashlib.sha256()
    for path in sorted(package.rglob("*.py")):
        if path.relative_to(package).parts[0] not in aside:
            whole.update(path.relative_to(package).as_posix().encode() + path.read_bytes())
    return whole.hexdigest()


def _scipy() -> str | None:
    try:
        import scipy
    except ImportError:
        return None
    return scipy.__version__


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
    pair = pair_of(scene, ready, posed, protocol.grid, cloud)
    figures: Figures = {}
    for measure in protocol.measures:
        figures |= measure.figures(pair, workers)
    if any(value is not None and not np.isfinite(value) for value in figures.values()):
        raise ManyViewError(f"{posed.name}: a figure of {spec} is not finite; this is an error of ManyView")
    return PlanRow(
        spec,
        key,
        figures,
        scene.settings["accel"],
        dict(scene.timings_s),
        dict(scene.memory_bytes),
        len(posed) - len(scene),
        (*scene.notes, *pair.notes),
    )
