"""Weights sharded over two processes: the run equals that of one process, whichever part is sharded."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torch.multiprocessing as multiprocessing

from manyview.errors import UsageError
from manyview.train import run
from manyview.train.config import LossWeights, Stage, TrainConfig
from manyview.train.log import read_log
from manyview.train.loop import _process
from manyview.train.sharding import clip_gradients
from manyview.train.state import load_state
from manyview.train.weights import export_weights, trained_model

from .tiny import tiny_config

BLOCKS = ("aggregator.frame_blocks.", "aggregator.global_blocks.")


def lines(out: Path, kind: str) -> list[dict]:
    return [line for line in read_log(out / "log.jsonl") if line["kind"] == kind]


def assert_same_run(one: Path, two: Path) -> None:
    for a, b in zip(lines(one, "train"), lines(two, "train"), strict=True):
        assert a["losses"] == pytest.approx(b["losses"], rel=1e-4, abs=1e-6)
        assert a["grad_norm"] == pytest.approx(b["grad_norm"], rel=1e-3)
        assert a["scenes"] == b["scenes"]
    a, b = lines(one, "evaluate")[-1], lines(two, "evaluate")[-1]
    assert a["abs_rel"] == pytest.approx(b["abs_rel"], rel=1e-3)
    first, second = load_state(one), load_state(two)
    assert set(first.tensors) == set(second.tensors)
    assert first.header["optimiser_steps"] == second.header["optimiser_steps"]
    assert any(name.startswith("ema/") for name in first.tensors)
    for name, tensor in first.tensors.items():
        # A step has the length of the rate whatever the gradient, which is rounding where it is tiny.
        torch.testing.assert_close(tensor, second.tensors[name], rtol=1e-3, atol=3e-4, msg=name)


def fresh(**changes: object) -> TrainConfig:
    return tiny_config(steps=4, step_batches=2, ema=0.5, checkpoint_activations=True, **changes)


def frozen(folder: Path, **changes: object) -> TrainConfig:
    """Some weights are frozen, and a teacher (also sharded) gives the losses."""
    weights = LossWeights(direction=0.0, deep_camera=0.0, attention=0.0, distill=0.5)
    stages = (Stage("sets", 1, ((2, 3),), (2, 3), 6, weights=weights, plan="flash:r=2"),)
    return fresh(stages=stages, trained=BLOCKS, init=str(folder / "start.safetensors"), **changes)


def _two_steps_each(rank: int, folder: str) -> None:
    """A process that takes part in one run after the other."""
    for number, (name, config) in enumerate(
        {
            "begun": fresh(shard=True),
            "resumed": fresh(shard=True),
            "frozen two": frozen(Path(folder), shard=True),
        }.items()
    ):
        out = str(Path(folder) / name)
        Path(out).mkdir(exist_ok=True)
        _process(rank, 2, f"{folder}/store{number}", config.to_json(), out, (None, 2))


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Runs of four steps in two parts: "whole" in one process, others with a part on two in one launch."""
    if torch.__version__ < "2.13":
        pytest.skip("sharded training needs PyTorch 2.13")
    folder = tmp_path_factory.mktemp("runs")
    for _ in range(2):
        run(fresh(), folder / "whole", steps=2)
    export_weights(folder / "whole", folder / "start.safetensors")
    run(fresh(shard=True), folder / "resumed", steps=2)
    run(frozen(folder), folder / "frozen one", steps=2)
    multiprocessing.start_processes(_two_steps_each, (str(folder),), nprocs=2, start_method="spawn")
    run(fresh(), folder / "begun", steps=2)
    return folder


def test_a_run_begun_on_two_processes_resumes_in_one(runs: Path) -> None:
    assert [line["processes"] for line in lines(runs / "begun", "start")] == [2, 1]
    assert_same_run(runs / "whole", runs / "begun")


def test_a_run_begun_in_one_process_resumes_on_two(runs: Path) -> None:
    assert [line["processes"] for line in lines(runs / "resumed", "start")] == [1, 2]
    assert_same_run(runs / "whole", runs / "resumed")


def test_frozen_weights_and_a_teacher_are_sharded_too(runs: Path) -> None:
    assert_same_run(runs / "frozen one", runs / "frozen two")
    begin = trained_model(runs / "whole").half().float().state_dict()
    end = trained_model(runs / "frozen two").state_dict()
    moved = {name for name, tensor in begin.items() if not torch.equal(tensor, end[name])}
    assert moved and all(name.startswith(BLOCKS) for name in moved)


def test_clipping_is_torchs() -> None:
    torch.manual_seed(0)
    twins = [[torch.nn.Parameter(torch.ones(n)) for n in (3, 5)] for _ in range(2)]
    for a, b in zip(*twins, strict=True):
        a.grad = torch.randn_like(a)
        b.grad = a.grad.clone()
    for limit in (100.0, 0.5):
        want = torch.nn.utils.clip_grad_norm_(twins[0], limit)
        assert clip_gradients(twins[1], limit) == pytest.approx(float(want))
        for a, b in zip(*twins, strict=True):
            torch.testing.assert_close(a.grad, b.grad)


def test_incompatible_options_raise() -> None:
    with pytest.raises(UsageError, match="step_batches"):
        tiny_config(shard=True)
    with pytest.raises(UsageError, match="compile_blocks"):
        fresh(shard=True, compile_blocks=True)
