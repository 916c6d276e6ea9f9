"""Whole runs of a few steps: they repeat, resume to the step, and refuse what is not theirs."""

from __future__ import annotations

import dataclasses
import itertools
import json
import math
import os
import signal
import threading
import time
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file

from manyview.errors import OutputError, UsageError, WeightsError
from manyview.models.vggt.config import VGGTConfig
from manyview.models.vggt.model import VGGT
from manyview.train import run
from manyview.train.log import plot_curves, read_log
from manyview.train.state import RunState, load_state, save_state
from manyview.train.trainer import Trainer
from manyview.train.weights import export_weights, trained_model
from manyview.train.workers import Workers

from .tiny import MODEL, tiny_config


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("run") / "whole"
    run(tiny_config(), out)
    return out


def assert_same_state(a: Path, b: Path) -> None:
    first, second = load_state(a), load_state(b)
    ignored = {"seconds"}
    assert {k: v for k, v in first.header.items() if k not in ignored} == {
        k: v for k, v in second.header.items() if k not in ignored
    }
    assert set(first.tensors) == set(second.tensors)
    assert any(name.startswith("exp_avg_sq/model/") for name in first.tensors)
    for name, tensor in first.tensors.items():
        assert torch.equal(tensor, second.tensors[name]), name


def test_a_run_repeats_exactly(finished: Path, tmp_path: Path) -> None:
    run(tiny_config(), tmp_path / "again")
    assert_same_state(finished, tmp_path / "again")


def test_a_run_cut_into_parts_is_the_whole_run(finished: Path, tmp_path: Path) -> None:
    out = tmp_path / "parts"
    for expected in (2, 6, 8):
        end = run(tiny_config(), out, steps=2 if expected == 2 else 4)
        assert end["step"] == expected
    assert_same_state(finished, out)


def test_training_changes_the_weights_and_lowers_the_loss(tmp_path: Path) -> None:
    run(tiny_config(steps=60, sync_every=10), tmp_path)
    lines = [line for line in read_log(tmp_path / "log.jsonl") if line["kind"] == "train"]
    direction = [line["losses"]["direction"] for line in lines]
    assert direction[-1] < 0.9 * direction[0]
    assert all(math.isfinite(value) for line in lines for value in line["losses"].values())


def test_the_log_describes_the_run(finished: Path) -> None:
    lines = read_log(finished / "log.jsonl")
    assert [line["kind"] for line in lines] == ["start", *["train"] * 4, "evaluate", "end"]
    steps = [line for line in lines if line["kind"] == "train"]
    assert [line["step"] for line in steps] == [2, 4, 6, 8]
    assert [line["stage"] for line in steps] == ["first", "second", "second", "second"]
    assert {"camera", "depth", "points", "direction", "deep_camera", "attention", "total"} == set(
        steps[0]["losses"]
    )
    assert lines[0]["config"] == tiny_config().to_json()
    assert 0 <= lines[-2]["auc_30"] <= 100 and lines[-2]["abs_rel"] > 0


def test_a_cut_last_line_of_the_log_is_left_out(tmp_path: Path) -> None:
    log = tmp_path / "log.jsonl"
    log.write_text('{"kind": "end"}\n{"kind": "tr')
    assert read_log(log) == [{"kind": "end"}]


def test_curves_are_drawn(finished: Path, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    plot_curves(finished / "log.jsonl", tmp_path / "curves.png")
    assert (tmp_path / "curves.png").read_bytes().startswith(b"\x89PNG")
    (tmp_path / "empty.jsonl").write_text("")
    with pytest.raises(UsageError, match=r"empty\.jsonl"):
        plot_curves(tmp_path / "empty.jsonl", tmp_path / "none.png")


class Apart(Workers):
    """One of two processes whose exchange is done by hand."""

    def __init__(self, rank: int) -> None:
        super().__init__(rank)
        self.size = 2

    def average(self, tensors: object) -> None:
        raise AssertionError("the test averages by hand")


def test_two_processes_train_on_their_own_scenes_and_average(tmp_path: Path) -> None:
    config = tiny_config(steps=4)
    run(config, tmp_path, processes=2, steps=2)
    twins = [Trainer(config, Apart(rank)) for rank in range(2)]
    for twin in twins:
        twin.start_from_data()
        twin.train_step()
        twin.train_step()
    expected = [twin.state() for twin in twins]
    found = load_state(tmp_path)
    assert found.header["step"] == 2
    assert found.header["scenes"] == expected[0].header["scenes"] > 2
    for name, tensor in found.tensors.items():
        mean = (expected[0].tensors[name] + expected[1].tensors[name]) / 2
        torch.testing.assert_close(tensor, mean, atol=1e-6, rtol=1e-5)
    moved = [twin.state().tensors["model/camera_head.embed_pose.weight"] for twin in twins]
    assert not torch.equal(*moved)


def test_minutes_are_counted_over_all_parts(tmp_path: Path) -> None:
    config = tiny_config(steps=None, minutes=60.0)
    first = run(config, tmp_path, minutes=0.0)
    second = run(config, tmp_path, minutes=0.0)
    assert 0 < first["progress"] < second["progress"] < 0.1
    assert second["progress"] == pytest.approx(second["seconds"] / 3600)


def test_ctrl_c_stops_at_the_next_exchange_and_keeps_the_state(tmp_path: Path) -> None:
    timer = threading.Timer(0.5, os.kill, (os.getpid(), signal.SIGINT))
    handler = signal.getsignal(signal.SIGINT)
    timer.start()
    end = run(tiny_config(steps=100_000), tmp_path)
    timer.join()
    assert 0 < end["step"] < 100_000
    assert load_state(tmp_path).header["step"] == end["step"]
    assert signal.getsignal(signal.SIGINT) is handler


def test_another_config_or_folder_is_refused(finished: Path, tmp_path: Path) -> None:
    other = dataclasses.replace(tiny_config(), model=dataclasses.replace(MODEL, registers=2))
    with pytest.raises(UsageError, match="model"):
        run(other, finished)
    with pytest.raises(OutputError, match="whole"):
        run(tiny_config(), finished, resume=False)
    (tmp_path / "photo.jpg").write_bytes(b"")
    with pytest.raises(OutputError, match=tmp_path.name):
        run(tiny_config(), tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ["photo.jpg"]
    with pytest.raises(UsageError, match="processes"):
        run(tiny_config(), tmp_path / "new", processes=0)


def test_exported_weights_are_a_vggt_in_half_precision(finished: Path, tmp_path: Path) -> None:
    path = tmp_path / "weights.safetensors"
    metadata = export_weights(finished, path, {"auc_30": 1.5})
    with safe_open(path, "pt") as file:
        stored = json.loads(file.metadata()["manyview"])
    assert stored == json.loads(json.dumps(metadata))
    assert (stored["licence"], stored["numbers"], stored["recipe"]["steps"]) == (
        "Apache-2.0",
        {"auc_30": 1.5},
        8,
    )
    model = VGGT(VGGTConfig.from_json(stored["config"]))
    tensors = load_file(path)
    assert {tensor.dtype for tensor in tensors.values()} == {torch.float16}
    model.load_state_dict(tensors)
    images = torch.rand(1, 2, 3, 16, 24)
    with torch.no_grad():
        half, full = model.eval()(images), trained_model(finished)(images)
    torch.testing.assert_close(half.z_depth, full.z_depth, atol=1e-2, rtol=1e-2)


def test_weights_that_do_not_fit_half_precision_are_refused(finished: Path, tmp_path: Path) -> None:
    state = load_state(finished)
    tensors = {**state.tensors, "model/aggregator.camera_token": torch.full((1, 2, 1, 32), 1e6)}
    save_state(tmp_path, RunState(tensors, state.header), 8)
    with pytest.raises(WeightsError, match="camera_token"):
        export_weights(tmp_path, tmp_path / "w.safetensors")
    assert not (tmp_path / "w.safetensors").exists()


def test_minutes_of_processor_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ticks = itertools.count(0.0, 6.0)
    monkeypatch.setattr(time, "process_time", lambda: next(ticks))
    config = dataclasses.replace(
        tiny_config(), steps=None, minutes=0.5, processor_time=True, evaluate_scenes=1
    )
    end = run(config, tmp_path / "run")
    assert end["progress"] == 1.0 and end["seconds"] == pytest.approx(30.0)
