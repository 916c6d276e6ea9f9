"""Weights shared out among two processes: the run of one process, whichever of its parts were shared out."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch

from manyview.errors import UsageError
from manyview.train import run
from manyview.train.config import LossWeights, Stage, TrainConfig
from manyview.train.log import read_log
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
    told, same = lines(one, "evaluate")[-1], lines(two, "evaluate")[-1]
    assert told["abs_rel"] == pytest.approx(same["abs_rel"], rel=1e-3)
    first, second = load_state(one), load_state(two)
    assert set(first.tensors) == set(second.tensors)
    assert first.header["optimiser_steps"] == second.header["optimiser_steps"]
    assert any(name.startswith("ema/") for name in first.tensors)
    for name, tensor in first.tensors.items():
        # A step has the length of the rate whatever the gradient, which is rounding where it is tiny.
        torch.testing.assert_close(tensor, second.tensors[name], rtol=1e-3, atol=3e-4, msg=name)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four steps of one process, in two parts as the others are."""
    out = tmp_path_factory.mktemp("whole") / "run"
    for _ in range(2):
        run(fresh(), out, steps=2)
    return out


def fresh(**changes: object) -> TrainConfig:
    return tiny_config(steps=4, step_batches=2, ema=0.5, checkpoint_activations=True, **changes)


def test_a_run_begun_on_two_processes_goes_on_in_one(whole: Path, tmp_path: Path) -> None:
    run(fresh(shard=True), tmp_path, processes=2, steps=2)
    run(fresh(), tmp_path, steps=2)
    assert [line["processes"] for line in lines(tmp_path, "start")] == [2, 1]
    assert_same_run(whole, tmp_path)


@pytest.mark.slow
def test_a_run_begun_in_one_process_goes_on_in_two(whole: Path, tmp_path: Path) -> None:
    run(fresh(shard=True), tmp_path, steps=2)
    run(fresh(shard=True), tmp_path, processes=2, steps=2)
    assert_same_run(whole, tmp_path)


@pytest.mark.slow
def test_frozen_weights_and_a_teacher_are_shared_out_too(whole: Path, tmp_path: Path) -> None:
    export_weights(whole, tmp_path / "start.safetensors")
    weights = LossWeights(direction=0.0, deep_camera=0.0, attention=0.0, distill=0.5)
    stages = (Stage("sets", 1, ((2, 3),), (2, 3), 6, weights=weights, plan="flash:r=2"),)
    config = fresh(stages=stages, trained=BLOCKS, init=str(tmp_path / "start.safetensors"))
    run(config, tmp_path / "one", steps=2)
    run(dataclasses.replace(config, shard=True), tmp_path / "two", processes=2, steps=2)
    assert_same_run(tmp_path / "one", tmp_path / "two")
    begin, end = (
        trained_model(whole).half().float().state_dict(),
        trained_model(tmp_path / "two").state_dict(),
    )
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


def test_what_does_not_go_together_is_told() -> None:
    with pytest.raises(UsageError, match="shard needs step_batches"):
        tiny_config(shard=True)
    with pytest.raises(UsageError, match="compile_blocks"):
        fresh(shard=True, compile_blocks=True)
