"""`manyview train base`: a run, its weights with held-out numbers, and what can be wrong."""

from __future__ import annotations

import json
from pathlib import Path

from safetensors import safe_open

from manyview.cli.train import last_progress
from tests.train.tiny import tiny_config

from .conftest import Command


def test_train_go_on_and_write_weights(command: Command, tmp_path: Path):
    config, out, weights = tmp_path / "config.json", tmp_path / "run", tmp_path / "weights.safetensors"
    config.write_text(json.dumps(tiny_config(steps=2).to_json()))
    line = ("train", "base", "--out", out)
    status, stdout, stderr = command(*line, "--config", config)
    assert status == 0, stderr
    assert "100% of the schedule" in stdout and (out / "curves.png").is_file()
    assert command(*line, "--config", config)[0] == 0
    assert command(*line, "--config", config, "--fresh")[0] != 0
    status, _, stderr = command(*line, "--weights", weights, "--scenes", 1, "--no-more-views")
    assert status == 0, stderr
    with safe_open(weights, "pt") as file:
        metadata = json.loads(file.metadata()["manyview"])
    assert list(metadata["numbers"]["levels"]) == ["easy", "medium", "hard"]
    assert set(metadata["numbers"]["levels"]["hard"]["rows"]) == {"dense", "frame", "identity", "mean pose"}
    parts = metadata["recipe"]["parts"]
    assert parts[0]["step"] == 0 and parts[0]["processes"] == 1
    assert metadata["recipe"]["steps"] == 2 and metadata["licence"] == "Apache-2.0"


def test_errors_are_sentences(command: Command, tmp_path: Path):
    for line, wanted in (
        (("--out", tmp_path / "a", "--config", "absent"), 2),
        (("--out", tmp_path / "b", "--processes", 0), 2),
        (("--out", tmp_path / "c", "--device", "cuda:99"), 2),
        (("--out", tmp_path / "nothing", "--weights", tmp_path / "w.safetensors", "--scenes", 0), 1),
    ):
        status, _, stderr = command("train", "base", *line)
        assert status == wanted
        assert stderr.startswith("manyview: ") and "Traceback" not in stderr and len(stderr.splitlines()) == 1


def test_progress_is_read_from_the_log(tmp_path: Path):
    log = tmp_path / "log.jsonl"
    assert last_progress(log) is None
    log.write_text('{"kind": "train", "progress": 0.25}\n{"kind": "evaluate"}\n{"kind": "tra')
    assert last_progress(log) == 0.25


def test_elastic_training_goes_on_from_weights_of_any_size(command: Command, tmp_path: Path):
    base, elastic = tiny_config(steps=1), tmp_path / "elastic.json"
    (tmp_path / "base.json").write_text(json.dumps(base.to_json()))
    weights = tmp_path / "base.safetensors"
    assert command("train", "base", "--out", tmp_path / "a", "--config", tmp_path / "base.json")[0] == 0
    assert command("train", "base", "--out", tmp_path / "a", "--weights", weights, "--scenes", 0)[0] == 0
    menu = {"dense": 1, "avggt:early=0,stride=2x2": 1, "flash:r=2": 1, "frame": 1}
    stages = [{**stage, "plans": menu} for stage in base.to_json()["stages"]]
    elastic.write_text(json.dumps({**base.to_json(), "stages": stages, "steps": 4}))
    line = ("train", "elastic", "--out", tmp_path / "b", "--config", elastic)
    status, _, stderr = command(*line)
    assert status == 2 and "--init" in stderr
    status, stdout, stderr = command(*line, "--init", weights)
    assert status == 0, stderr
    assert "images/s" in stdout and "GFLOP/s" in stdout


def test_flash_training_goes_on_from_weights_and_stores_its_plan(command: Command, tmp_path: Path):
    base, flash = tiny_config(steps=1), tmp_path / "flash.json"
    (tmp_path / "base.json").write_text(json.dumps(base.to_json()))
    weights, trained = tmp_path / "base.safetensors", tmp_path / "flash.safetensors"
    assert command("train", "base", "--out", tmp_path / "a", "--config", tmp_path / "base.json")[0] == 0
    assert command("train", "base", "--out", tmp_path / "a", "--weights", weights, "--scenes", 0)[0] == 0
    stages = [{**stage, "plan": "flash:r=2"} for stage in base.to_json()["stages"]]
    recipe = {"trained": ["aggregator.global_blocks."], "trained_for": "flash:r=2", "stages": stages}
    flash.write_text(json.dumps({**base.to_json(), **recipe, "steps": 2}))
    line = ("train", "flash", "--out", tmp_path / "b", "--config", flash)
    status, _, stderr = command(*line)
    assert status == 2 and "--init" in stderr
    status, _, stderr = command(*line, "--init", weights)
    assert status == 0, stderr
    assert command(*line, "--base-weights", weights)[0] == 2
    line = (*line, "--weights", trained, "--scenes", 1, "--base-weights", weights)
    assert command(*line, "--image-size", 29)[0] == 2 and not trained.exists()
    status, stdout, stderr = command(*line, "--image-size", 32)
    assert status == 0 and weights.name in stdout, stderr
    with safe_open(trained, "pt") as file:
        metadata = json.loads(file.metadata()["manyview"])
    assert {"dense", "frame", "flash:r=2"} < set(metadata["numbers"]["levels"]["easy"]["rows"])
    assert set(metadata["numbers"]["views"][0]["rows"]) == {"flash:r=2"}
    assert metadata["accel"] == {"plan": "flash:r=2"} and metadata["config"]["image_size"] == 32
