"""Options of a step: a teacher, an EMA, activation checkpointing, and draws divided among processes."""

from __future__ import annotations

import dataclasses
import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from manyview.errors import UsageError
from manyview.models.vggt.model import VGGT
from manyview.train import run
from manyview.train.config import LossWeights, Stage, TrainConfig
from manyview.train.distill import Teacher
from manyview.train.log import read_log
from manyview.train.objective import render_draw
from manyview.train.schedule import draw_step
from manyview.train.state import load_state
from manyview.train.targets import make_targets
from manyview.train.trainer import Trainer
from manyview.train.weights import export_weights, trained_model
from manyview.train.workers import Workers

from .tiny import tiny_config


@pytest.fixture(scope="module")
def start(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("start")
    run(tiny_config(steps=2), folder / "run")
    export_weights(folder / "run", folder / "start.safetensors")
    return folder / "start.safetensors"


def with_weights(plan: str = "dense", **changes: float) -> tuple[Stage, ...]:
    weights = dataclasses.replace(LossWeights(), **changes)
    return (Stage("all", 1, ((2, 3),), (2, 3), 6, weights=weights, plan=plan),)


def stepped(config: TrainConfig, steps: int = 2) -> tuple[Trainer, list[dict[str, float]]]:
    trainer = Trainer(config, Workers())
    return trainer, [trainer.train_step() for _ in range(steps)]


def test_the_teacher_is_the_dense_start(start: Path) -> None:
    stages = with_weights(distill=0.5)
    config = tiny_config(stages=stages, init=str(start))
    trainer = Trainer(config, Workers())
    batch = render_draw(draw_step(config, trainer.here, 0, 0), config.model.patch_size)
    valid = make_targets(batch, config.model.patch_size).valid
    teacher = Teacher(trainer.model)

    def apart(model: VGGT) -> float:
        with torch.no_grad():
            return float(teacher.loss(batch.images, model(batch.images), valid, stages[0].weights, 0.02))

    assert apart(trainer.model) < 1e-3  # every pixel's loss is rounded off by 1e-4
    for _ in range(3):
        values = trainer.train_step()
    assert apart(trainer.model) > 1e-3 and values["distill"] > 1e-3
    assert all(p.grad is None for p in teacher._model.parameters())
    same = dataclasses.replace(config, stages=with_weights())
    plain = Trainer(same, Workers())
    first = Trainer(config, Workers()).train_step()
    assert first["total"] == pytest.approx(plain.train_step()["total"] + 0.5 * first["distill"], rel=1e-5)


def test_a_teacher_needs_weights_to_start_from() -> None:
    with pytest.raises(UsageError, match="init"):
        Trainer(tiny_config(stages=with_weights(distill=1.0)), Workers())


def test_the_running_mean_is_what_is_exported(tmp_path: Path) -> None:
    name = "camera_head.pose_branch.fc2.weight"  # among those that the start from data sets
    config = tiny_config(steps=4, ema=0.75)
    trainer = Trainer(config, Workers())
    trainer.start_from_data()
    mean = trainer.model.state_dict()[name].clone()
    for _ in range(4):
        trainer.train_step()
        mean = 0.75 * mean + 0.25 * trainer.model.state_dict()[name]
    run(config, tmp_path, steps=2)
    run(config, tmp_path)
    torch.testing.assert_close(trained_model(tmp_path).state_dict()[name], mean)
    now = trainer.model.state_dict()[name].clone()
    with trainer.mean.in_place():
        torch.testing.assert_close(trainer.model.state_dict()[name], mean)
    assert torch.equal(trainer.model.state_dict()[name], now) and not torch.equal(now, mean)


@pytest.mark.parametrize("plan", ["dense", "flash:r=2,causal=true"])
def test_recomputed_blocks_give_the_same_step(plan: str) -> None:
    config = tiny_config(stages=with_weights(plan))
    plain, values = stepped(config)
    again, same = stepped(dataclasses.replace(config, checkpoint_activations=True))
    assert values == same
    for name, tensor in plain.model.state_dict().items():
        assert torch.equal(tensor, again.model.state_dict()[name]), name


def test_a_step_of_several_draws_is_their_mean_gradient() -> None:
    config = tiny_config(step_batches=2)
    trainer = Trainer(config, Workers())
    trainer.train_step()
    name = "camera_head.embed_pose.weight"
    together = dict(trainer.model.named_parameters())[name].grad
    singles = []
    for number in range(2):
        worker = Workers()
        worker.rank = number
        one = Trainer(tiny_config(), worker)
        one.train_step()
        singles.append(dict(one.model.named_parameters())[name].grad)
    # Gradients are clipped to the same length after the mean; directions tell.
    mean = (singles[0] + singles[1]) / 2
    assert together is not None and trainer.scenes == 2 * one.scenes
    cosine = torch.nn.functional.cosine_similarity(together.flatten(), mean.flatten(), dim=0)
    assert cosine > 0.9


_SCRIPT = """
import os, sys
from pathlib import Path
from manyview.cli.main import run

folder, port = Path(sys.argv[1]), sys.argv[2]
line = ["train", "base", "--config", str(folder / "recipe.json")]
status = run([*line, "--out", str(folder / "plain")])
os.environ.update(TORCHELASTIC_USE_AGENT_STORE="False", MASTER_PORT=port)  # a new store for a new group
if not status and len(sys.argv) > 3:
    status = run([*line, "--out", str(folder / "sharded"), "--shard"])
sys.exit(status)
"""


def launch_two(script: str, folder: Path, *arguments: str) -> str:
    """Run Python code in two processes of torchrun, with `folder` and a free port as arguments."""
    (folder / "script.py").write_text(script)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    done = subprocess.run(
        [*launcher, str(folder / "script.py"), str(folder), str(port), *arguments],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.slow
def test_torchrun_has_the_losses_of_one_process(tmp_path: Path) -> None:
    """Plain and sharded (which PyTorch before 2.13 is refused), one after the other in one launch."""
    names = ["plain", *["sharded"] * (torch.__version__ >= "2.13")]
    config = tiny_config(steps=4, step_batches=2)
    run(config, tmp_path / "one")
    (tmp_path / "recipe.json").write_text(json.dumps(config.to_json()))
    assert launch_two(_SCRIPT, tmp_path, *names[1:]).count("100% of the schedule") == len(names)
    for two in names:
        one_lines, two_lines = (
            [line for line in read_log(tmp_path / name / "log.jsonl") if line["kind"] == "train"]
            for name in ("one", two)
        )
        assert [line["scenes"] for line in one_lines] == [line["scenes"] for line in two_lines]
        for a, b in zip(one_lines, two_lines, strict=True):
            assert a["losses"] == pytest.approx(b["losses"], rel=1e-4, abs=1e-6)
            assert a["grad_norm"] == pytest.approx(b["grad_norm"], rel=1e-3)
        states = [load_state(tmp_path / name).tensors for name in ("one", two)]
        for name, tensor in states[0].items():
            if not name.startswith("exp_avg"):
                torch.testing.assert_close(tensor, states[1][name], rtol=1e-3, atol=2e-4)


def test_draws_are_shared_evenly() -> None:
    worker = Workers()
    worker.size = 2
    with pytest.raises(UsageError, match="step_batches"):
        Trainer(tiny_config(step_batches=3), worker)
