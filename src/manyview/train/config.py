"""Configuration of a training run: frozen dataclasses, read from and written to JSON."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from importlib import resources
from pathlib import Path
from typing import Annotated, Any

import msgspec

from ..attention.plan import Plan
from ..errors import UsageError
from ..files.schema import Count, Natural, Positive, convert, parse_json, read_json, schema_errors
from ..models.vggt.config import VGGTConfig
from .elastic import check_shares
from .posed_data import PosedFolders

Weight = Annotated[float, msgspec.Meta(ge=0, le=1e9)]
Share = Annotated[float, msgspec.Meta(ge=0, le=1)]
Few = Annotated[int, msgspec.Meta(ge=1, le=4096)]
Views = Annotated[int, msgspec.Meta(ge=2, le=4096)]


@dataclass(frozen=True)
class LossWeights:
    """Weight of each term of the loss; zero switches a term off.

    `confidence` is VGGT's alpha in c * error - alpha * log(c); at zero the confidences are left alone and
    every pixel counts the same. `gradient` multiplies the gradient part inside the depth and point losses.
    `distill` weighs the camera and depth losses against the predictions of the initial weights with dense
    attention.
    """

    camera: Weight = 5.0
    relative: Weight = 0.0
    depth: Weight = 1.0
    points: Weight = 1.0
    gradient: Weight = 1.0
    direction: Weight = 3.0
    deep_camera: Weight = 1.0
    attention: Weight = 0.5
    confidence: Weight = 0.0
    distill: Weight = 0.0


@dataclass(frozen=True)
class SceneMix:
    """One kind of scene in a stage, drawn with probability proportional to `share`.

    `start` and `end` name fields of `SceneOptions`; numbers (and lists of numbers) that stand in both move
    linearly from one to the other while the stage lasts. `posed` names image sets with cameras and
    depth that are used instead of rendered scenes. `plan` is the attention plan of steps with such scenes
    (None: the stage's). With `scenes` it is a group in a recipe, which `config_from_json` replaces by these:
    they have the group's entries where they have none of their own, and shares of the group's share.
    """

    share: Positive = 1.0
    start: Mapping[str, Any] = field(default_factory=dict)
    end: Mapping[str, Any] = field(default_factory=dict)
    posed: PosedFolders | None = None
    plan: str | None = None
    scenes: tuple[SceneMix, ...] = ()


@dataclass(frozen=True)
class Stage:
    """One part of the schedule: which scenes at which size, with which losses and plan.

    `share` is this stage's part of the whole run, `grids` the patch grids (rows, columns) one of which is
    drawn each step, `views` the smallest and largest number of views, `frames_per_step` the images a
    process sees in a step (a scene with more views than that fills the step alone). `augment` and
    `camera_effects` (rendered scenes alone) are strengths of `photometric` and `through_camera` in
    `augment.py`. The point head runs every `points_every`-th step. `plan` is the attention plan of every
    step, or `plans` names several with their shares, one of which each layer draws each step; then in a
    share `early_share` of steps the first layers use same-frame attention.
    """

    name: str
    share: Positive
    grids: tuple[tuple[Few, Few], ...]
    views: tuple[Few, Few] = (2, 8)
    frames_per_step: Count = 16
    scenes: tuple[SceneMix, ...] = (SceneMix(),)
    weights: LossWeights = LossWeights()
    points_every: Count = 1
    augment: Weight = 0.0
    camera_effects: Share = 0.0
    plan: str = "dense"
    plans: Mapping[str, Positive] = field(default_factory=lambda: {"dense": 1.0})
    early_share: Share = 0.0

    def __post_init__(self) -> None:
        check_shares(self.plans)
        fixed = {self.plan, *(mix.plan or "dense" for mix in self.scenes)}
        if fixed != {"dense"} and set(self.plans) != {"dense"}:
            raise UsageError(f"stage '{self.name}': give either plan or plans, not both")
        low, high = self.views
        if not 1 <= low <= high:
            raise UsageError(
                f"stage '{self.name}': views must be two counts, smallest first, not {self.views}"
            )
        if self.share <= 0 or self.points_every < 1 or self.frames_per_step < 1:
            raise UsageError(f"stage '{self.name}': share, points_every and frames_per_step must be positive")
        if not self.grids or not self.scenes:
            raise UsageError(f"stage '{self.name}': needs at least one grid and one kind of scene")


@dataclass(frozen=True)
class OptimiserOptions:
    """AdamW with warm-up in steps and a cosine over the whole run down to `final_lr` of the peak.

    `slow_lr` multiplies the rate of the trunk's biases, norms and LayerScale, which otherwise fill the
    residual stream with one vector shared by all tokens. `muon` hands the matrices of the blocks to Muon.
    """

    lr: Weight = 1e-3
    betas: tuple[Share, Share] = (0.9, 0.98)
    weight_decay: Weight = 0.02
    warmup_steps: Natural = 100
    final_lr: Weight = 0.02
    slow_lr: Weight = 0.1
    muon: bool = False
    clip: Weight = 1.0


@dataclass(frozen=True)
class TrainConfig:
    """A whole training run. Either `steps` or `minutes` (total, over all resumed parts) sets its length.

    `init` names weights to start from (None: fresh), `init_layers` the places of their pairs among this
    model's, `grown_layer_scale` the LayerScale of the pairs put between. `cpu_bf16` runs matrix products on
    a CPU that is faster at it in bfloat16 (weights stay float32), `compile_blocks` compiles the blocks;
    `attention_queries` patches of a batch are compared with the correspondences (None: all). Layers before
    `read_out_from` have no auxiliary losses. The camera loss is quadratic below `camera_rounding`.
    `early_layers` is stored with the weights: how many first layers `--accel auto` may restrict to
    same-frame attention (None: as the presets do). Only parameters whose name begins with one of `trained`
    are trained (none given: all). `trained_for` is the plan that the weights need: stored with them, used
    for held-out numbers (None: dense attention). `ema` is the decay of an exponential moving average of the
    weights, which is evaluated and exported (0: none). `checkpoint_activations` recomputes the activations
    of blocks in the backward pass. With `step_batches` a step is the mean gradient over that many draws,
    divided among the processes, and the run does not depend on their number; without, each process trains
    on its draws and weights are averaged. With `processor_time` minutes are those that the first process
    computes, so that a busy machine does not shorten the schedule. `shard` shards weights, gradients and
    optimiser state over the processes.
    """

    name: str
    model: VGGTConfig
    stages: tuple[Stage, ...]
    seed: Natural = 0
    steps: Count | None = None
    minutes: Positive | None = None
    optimiser: OptimiserOptions = OptimiserOptions()
    sync_every: Count = 10
    supervised_layers: tuple[Natural, ...] = ()
    read_out_from: Natural = 0
    early_layers: Natural | None = None
    trained: tuple[str, ...] = ()
    trained_for: str | None = None
    ema: Share = 0.0
    checkpoint_activations: bool = False
    step_batches: Count | None = None
    shard: bool = False
    processor_time: bool = False
    camera_decay: Weight = 0.6
    camera_rounding: Weight = 0.02
    attention_gain: Weight = 1.4
    layer_scale: Weight = 0.5
    grown_layer_scale: Weight = 0.0
    init: str | None = None
    init_layers: tuple[Natural, ...] = ()
    cpu_bf16: bool = False
    compile_blocks: bool = False
    attention_queries: Count | None = None
    checkpoint_minutes: Weight = 2.0
    evaluate_minutes: Weight = 4.0
    evaluate_scenes: Count = 24
    evaluate_views: Views = 8

    def __post_init__(self) -> None:
        if (self.steps is None) == (self.minutes is None):
            raise UsageError("a training config needs either steps or minutes, and not both")
        if (self.steps is not None and self.steps < 1) or (self.minutes is not None and self.minutes <= 0):
            raise UsageError("the length of a training run (steps or minutes) must be positive")
        if not self.stages or self.sync_every < 1:
            raise UsageError("a training config needs at least one stage and a positive sync_every")
        if not 0 <= self.ema < 1 or (self.step_batches is not None and self.step_batches < 1):
            raise UsageError("ema must lie from 0 to below 1, and step_batches be at least 1")
        if self.shard and (self.step_batches is None or self.optimiser.muon or self.compile_blocks):
            raise UsageError("shard needs step_batches, and goes with neither muon nor compile_blocks")
        for plan in self.fixed_plans:
            Plan.parse(plan, self.model.depth)

    @property
    def fixed_plans(self) -> tuple[str, ...]:
        """`trained_for` and the plan of every stage and kind of scene, which weights do not warn of."""
        first = () if self.trained_for is None else (self.trained_for,)
        used = [mix.plan or stage.plan for stage in self.stages for mix in stage.scenes]
        return tuple(dict.fromkeys((*first, *used)))

    def to_json(self) -> dict[str, Any]:
        """Plain dict that `config_from_json` reads back to an equal object."""
        data = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        data["model"] = self.model.to_json()
        data["optimiser"] = dataclasses.asdict(self.optimiser)
        data["stages"] = [dataclasses.asdict(stage) for stage in self.stages]
        for mix in (mix for stage in data["stages"] for mix in stage["scenes"]):
            del mix["scenes"]  # there are no groups any more
        return json.loads(json.dumps(data))


def config_from_json(data: Any, where: str = "training config") -> TrainConfig:
    """Build a config from plain data; an unknown, missing or impossible entry is a `UsageError` naming it."""
    with schema_errors(where, "correct it", UsageError):
        config = convert(_written_out(data), TrainConfig, known_only=True)
    stages = (replace(stage, scenes=_kinds(stage.scenes)) for stage in config.stages)
    return replace(config, stages=tuple(stages))


def _kinds(scenes: Iterable[SceneMix]) -> tuple[SceneMix, ...]:
    """Kinds of scenes without groups, each with what it shares with the others of its group."""
    found: list[SceneMix] = []
    for mix in scenes:
        inside = (
            SceneMix(
                mix.share * own.share,
                {**mix.start, **own.start},
                {**mix.end, **own.end},
                own.posed or mix.posed,
                own.plan or mix.plan,
                own.scenes,
            )
            for own in mix.scenes
        )
        found.extend(_kinds(inside) if mix.scenes else (mix,))
    return tuple(found)


def _written_out(data: Any) -> Any:
    """Stages whose scenes are "as before" with the scenes of the stage before them."""
    if not isinstance(data, dict) or not isinstance(data.get("stages"), list):
        return data
    stages: list[Any] = []
    for stage in data["stages"]:
        before = stages[-1] if stages else None
        if isinstance(stage, dict) and stage.get("scenes") == "as before" and isinstance(before, dict):
            stage = {**stage, "scenes": before.get("scenes", [])}
        stages.append(stage)
    return {**data, "stages": stages}


def config_names() -> tuple[str, ...]:
    """Names of the configs that come with the package."""
    folder = resources.files("manyview.train") / "configs"
    return tuple(sorted(p.name.removesuffix(".json") for p in folder.iterdir() if p.name.endswith(".json")))


def load_config(name_or_path: str | Path) -> TrainConfig:
    """Read a config by the name of a bundled one or from a JSON file."""
    where = f"training config '{name_or_path}'"
    if str(name_or_path) in config_names():
        text = (resources.files("manyview.train") / "configs" / f"{name_or_path}.json").read_bytes()
        return config_from_json(parse_json(text, dict), where)
    path = Path(name_or_path)
    if not path.is_file():
        names = ", ".join(config_names())
        raise UsageError(f"no {where}: give a JSON file or one of {names}")
    return config_from_json(read_json(path, dict, remedy="correct it", error=UsageError), where)
