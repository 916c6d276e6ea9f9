"""Training for descriptors: what is frozen stays, the plan travels with the weights, old runs go on."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from safetensors import safe_open

import manyview
from manyview.attention.auto import misfit
from manyview.attention.causal_descriptor_keys import CausalDescriptorKeys
from manyview.attention.methods.flashvggt import DescriptorKeys
from manyview.attention.plan import Plan
from manyview.errors import UsageError
from manyview.models.families import suited_plans
from manyview.train import run
from manyview.train.config import LossWeights, SceneMix, Stage, TrainConfig, load_config
from manyview.train.log import read_log
from manyview.train.schedule import draw_step
from manyview.train.sources import with_posed_data
from manyview.train.state import load_state
from manyview.train.trainer import Trainer
from manyview.train.weights import export_weights
from manyview.train.workers import Workers

from .tiny import tiny_config

BLOCKS = ("aggregator.frame_blocks.", "aggregator.global_blocks.")
VGGT_LOSSES = LossWeights(direction=0.0, deep_camera=0.0, attention=0.0)
STAGES = (
    Stage("unordered", 1, ((2, 2),), (2, 3), 6, weights=VGGT_LOSSES, plan="flash:r=2"),
    Stage("ordered", 1, ((2, 3),), (2, 3), 6, weights=VGGT_LOSSES, plan="flash:r=2,causal=true"),
)


@pytest.fixture(scope="module")
def start(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("start")
    run(tiny_config(steps=2), folder / "run")
    export_weights(folder / "run", folder / "start.safetensors")
    return folder / "start.safetensors"


def flash(start: Path, **changes: object) -> TrainConfig:
    values = {"stages": STAGES, "trained": BLOCKS, "trained_for": "flash:r=2", "init": str(start), **changes}
    return tiny_config(**{"steps": 4, **values})  # type: ignore[arg-type]


def test_only_the_blocks_move(start: Path, tmp_path: Path) -> None:
    run(flash(start, sync_every=1), tmp_path / "run")
    begin = manyview.load(start).state_dict()
    state = load_state(tmp_path / "run")
    moved = {
        name for name, tensor in begin.items() if not torch.equal(state.tensors[f"model/{name}"], tensor)
    }
    assert moved and all(name.startswith(BLOCKS) for name in moved)
    assert len(moved) > 0.8 * sum(name.startswith(BLOCKS) for name in begin)
    seen = {
        line["stage"]: line["losses"] for line in read_log(tmp_path / "run/log.jsonl") if "losses" in line
    }
    assert {"unordered", "ordered"} == set(seen)
    assert set(seen["ordered"]) == {"camera", "depth", "points", "total"}


def test_the_plan_travels_with_the_weights(start: Path, tmp_path: Path) -> None:
    run(flash(start), tmp_path / "run")
    accel = export_weights(tmp_path / "run", tmp_path / "w.safetensors")["accel"]
    assert accel == {"plan": "flash:r=2", "also": ["flash:r=2,causal=true"]}
    model = manyview.load(tmp_path / "w.safetensors")
    assert model.info is not None and model.info.plan == "flash:r=2"
    for spec, fits in (("flash:r=2", True), ("flash:r=2,causal=true", True), ("dense", False)):
        assert (misfit(Plan.parse(spec, 2), suited_plans(model)) is None) == fits
    assert model.info.metadata["recipe"]["command"].startswith("manyview train flash --config tiny --init")
    pictures = torch.rand(3, 16, 24, 3).mul(255).byte().numpy()
    for number, picture in enumerate(pictures):
        Image.fromarray(picture).save(tmp_path / f"{number}.png")
    result = manyview.reconstruct(sorted(tmp_path.glob("*.png")), model=model)
    assert result.settings["accel"] == "flash:r=2"
    plain = manyview.load(start)
    assert plain.info is not None and plain.info.plan is None


JOINT = Stage(
    "both",
    1,
    ((2, 2),),
    (2, 3),
    6,
    scenes=(SceneMix(), SceneMix(start={"path": "walk"}, plan="flash:r=2,causal=true")),
    weights=VGGT_LOSSES,
    plan="flash:r=2",
)


def test_kinds_of_scenes_have_plans_of_their_own(start: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trainer = Trainer(flash(start, stages=(JOINT,), steps=8), Workers())
    used: list[tuple[object, Plan]] = []
    forward = trainer.model.forward

    def recorded(images: torch.Tensor, plan: Plan, *rest: Any) -> Any:
        draw = draw_step(trainer.config, trainer.here, trainer.step, 0)
        used.append((draw.scenes.get("path"), plan))
        return forward(images, plan, *rest)

    monkeypatch.setattr(trainer.model, "forward", recorded)
    while not trainer.done:
        trainer.train_step()
    assert {path for path, _ in used} == {None, "walk"}
    causal = {None: "flash:r=2", "walk": "flash:r=2,causal=true"}
    assert all(plan == Plan.parse(causal[path], 2) for path, plan in used)
    with pytest.raises(UsageError, match="both"):
        dataclasses.replace(JOINT, plan="dense", plans={"frame": 1.0})
    with pytest.raises(UsageError, match="flush"):
        flash(start, stages=(dataclasses.replace(JOINT, scenes=(SceneMix(plan="flush"),)),))


def test_photographs_go_to_every_plan(tmp_path: Path) -> None:
    config = tiny_config(stages=(JOINT,))
    mixed = with_posed_data(with_posed_data(config, [tmp_path], 0.5), [tmp_path], 0.5).stages[0].scenes[2:]
    found = [(mix.share, mix.plan, mix.posed.ordered) for mix in mixed if mix.posed is not None]
    causal = "flash:r=2,causal=true"
    assert found == [(1, None, False), (1, causal, True), (2, None, False), (2, causal, True)]
    for name in ("cameras", "images"):
        (tmp_path / f"{name}.txt").touch()  # a COLMAP model, as folders of photographs have one
    photographs = with_posed_data(config, [tmp_path], 0.5, photographs=True).stages[0].scenes[2:]
    assert [mix.posed.ordered for mix in photographs if mix.posed is not None] == [False, True]


def test_weights_beside_those_they_began_from_are_a_part_of_the_size(start: Path, tmp_path: Path) -> None:
    base, part, full = (tmp_path / f"{name}.safetensors" for name in ("base", "part", "full"))
    base.write_bytes(start.read_bytes())
    run(flash(base), tmp_path / "run")
    export_weights(tmp_path / "run", full)
    export_weights(tmp_path / "run", part, base=str(base))
    first, second = (manyview.load(path).state_dict() for path in (full, part))
    assert all(torch.equal(first[name], second[name]) for name in first | second)
    with safe_open(part, "pt") as file:
        assert set(file.keys()) < {name for name in first if name.startswith(BLOCKS)}
    for wrong in (str(start), str(part)):  # in another folder, and the file itself
        with pytest.raises(UsageError, match="base"):
            export_weights(tmp_path / "run", part, base=wrong)
    with pytest.raises(UsageError, match="manyview-small"):
        export_weights(tmp_path / "run", part, base="manyview-small")


def test_a_run_of_an_older_config_goes_on(tmp_path: Path) -> None:
    run(tiny_config(), tmp_path, steps=2)
    new = ("trained", "trained_for", "ema", "checkpoint_activations", "step_batches")
    for path in tmp_path.glob("state-*/state.json"):
        data = json.loads(path.read_text())
        for name in new:
            del data["header"]["config"][name]
        path.write_text(json.dumps(data))
    assert run(tiny_config(), tmp_path, steps=2)["step"] == 4
    export_weights(tmp_path, tmp_path / "w.safetensors")
    with pytest.raises(UsageError, match="trained"):
        run(tiny_config(trained=BLOCKS), tmp_path)


def test_what_cannot_be_trained_raises(start: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="'encoder'"):
        run(flash(start, trained=("encoder",)), tmp_path)
    with pytest.raises(UsageError, match="flush"):
        flash(start, trained_for="flush")


def test_the_recipe_of_photographs_trains_for_sets_and_streams() -> None:
    config = load_config("flash-photos")
    assert config.fixed_plans == ("flash:r=4", "flash:r=4,causal=true")
    (stage,) = config.stages
    walks = [mix for mix in stage.scenes if mix.plan == "flash:r=4,causal=true"]
    assert all(mix.start["path"] == "walk" for mix in walks)
    sets = tuple(mix for mix in stage.scenes if mix not in walks)
    assert [mix.share for mix in walks] == [mix.share for mix in sets]
    assert [(2 * mix.share, mix.start) for mix in sets] == [
        (mix.share, mix.start) for mix in load_config("photos").stages[0].scenes
    ]
    assert config.trained == load_config("flash").trained == BLOCKS


def test_the_recipes_go_from_unordered_to_causal() -> None:
    first, second = load_config("flash"), load_config("flash-stream")
    plans = [Plan.parse(config.stages[0].plan, 8) for config in (first, second)]
    assert plans[0] == Plan.parse(first.trained_for or "", 8)
    for one, other in zip(plans[0].layers, plans[1].layers, strict=True):
        assert isinstance(other.keys, CausalDescriptorKeys) and isinstance(one.keys, DescriptorKeys)
        for option in ("reduction", "resample", "count_bias", "duplicates"):
            assert getattr(other.keys, option) == getattr(one.keys, option)
        assert one.keys.keyframes is None  # none below 400 frames
    assert all(dict(mix.start)["path"] == "walk" for mix in second.stages[0].scenes)
    assert first.stages[0].views == second.stages[0].views == (2, 24)
