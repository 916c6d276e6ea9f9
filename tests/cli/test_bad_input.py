"""Everything that can be wrong ends in one sentence, the right exit status, and nothing lost."""

from __future__ import annotations

import errno
import json
import os
import pickle
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from manyview.models.vggt.trunk import Trunk
from tests.interrupting import LISTENS_TO_CTRL_C
from tests.models.tiny import TINY

from .conftest import Command


def one_sentence(stderr: str, *parts: str) -> None:
    lines = [line for line in stderr.splitlines() if line.startswith("manyview: ")]
    assert len(lines) == 1, stderr
    assert "Traceback" not in stderr
    for part in parts:
        assert part in lines[0], lines[0]


def test_missing_path(command: Command, weights: Path, tmp_path: Path):
    status, _, stderr = command("reconstruct", tmp_path / "nowhere", tmp_path / "out", "--model", weights)
    assert status == 2 and not (tmp_path / "out").exists()
    one_sentence(stderr, "nowhere")


def test_empty_folder(command: Command, weights: Path, tmp_path: Path):
    (tmp_path / "empty").mkdir()
    status, _, stderr = command("reconstruct", tmp_path / "empty", tmp_path / "out", "--model", weights)
    assert status == 2
    one_sentence(stderr, "empty")


def test_text_named_jpg_is_skipped_with_a_note(command: Command, photos: Path, weights: Path, tmp_path: Path):
    (photos / "notes.jpg").write_text("not an image")
    line = ("reconstruct", photos, tmp_path / "out", "--model", weights, "--to", "none")
    status, _, stderr = command(*line, "--strict")
    assert status == 1 and not (tmp_path / "out").exists()
    one_sentence(stderr, "notes.jpg")
    status, stdout, _ = command(*line)
    assert status == 0 and "notes.jpg" in stdout


def test_only_damaged_images(command: Command, weights: Path, tmp_path: Path):
    (tmp_path / "p").mkdir()
    (tmp_path / "p" / "a.jpg").write_text("text")
    status, _, stderr = command("reconstruct", tmp_path / "p", tmp_path / "out", "--model", weights)
    assert status == 2
    one_sentence(stderr, "a.jpg")


def test_truncated_video(command: Command, weights: Path, tmp_path: Path, shared_data: Path):
    line = ("--model", weights, "--to", "none", "--max-frames", 4)
    cut = shared_data / "video-short" / "robot_truncated_500k.mp4"
    status, _, stderr = command("reconstruct", cut, tmp_path / "out", *line)
    assert status in (1, 2)
    one_sentence(stderr, "robot_truncated_500k.mp4")
    partly = shared_data / "video-short" / "robot_faststart_cut_45pct.mp4"
    status, _, stderr = command("reconstruct", partly, tmp_path / "out", *line, "--strict")
    assert status == 1
    one_sentence(stderr, "robot_faststart_cut_45pct.mp4")
    status, stdout, _ = command("reconstruct", partly, tmp_path / "out", *line)
    assert status == 0 and "70" in stdout


class Harmful:
    def __reduce__(self):
        return (os.system, ("touch harmed",))


def bad_checkpoints(folder: Path, weights: Path) -> dict[str, Path]:
    """Files that are not usable weights, by what is wrong with them."""
    whole = weights.read_bytes()
    paths = {name: folder / f"{name}.safetensors" for name in ("web page", "truncated", "empty")}
    paths["web page"].write_text("<!DOCTYPE html><html><body>404</body></html>")
    paths["truncated"].write_bytes(whole[: len(whole) // 2])
    paths["empty"].write_bytes(b"")
    paths["wrong model"] = folder / "wrong.safetensors"
    save_file({"layers.0.weight": torch.zeros(3, 3)}, paths["wrong model"])
    paths["runs code"] = folder / "code.pt"
    paths["runs code"].write_bytes(pickle.dumps({"state": Harmful()}))
    state = load_file(weights)
    metadata = {"manyview": json.dumps({"config": TINY.to_json(), "licence": "Apache-2.0"})}
    state["aggregator.frame_blocks.1.mlp.fc1.weight"][0, 0] = float("nan")
    paths["not finite"] = folder / "nan.safetensors"
    save_file(state, paths["not finite"], metadata)
    state = load_file(weights)
    state["camera_head.trunk_norm.weight"] = torch.zeros(5)
    del state["depth_head.norm.weight"]
    paths["misshapen"] = folder / "misshapen.safetensors"
    save_file(state, paths["misshapen"], metadata)
    return paths


@pytest.mark.parametrize(
    ("kind", "says"),
    [
        ("web page", "web page"),
        ("truncated", "truncated"),
        ("empty", "empty"),
        ("wrong model", "wrong.safetensors"),
        ("runs code", "code.pt"),
        ("not finite", "aggregator.frame_blocks.1.mlp.fc1.weight"),
        ("misshapen", "camera_head.trunk_norm.weight"),
    ],
)
def test_bad_checkpoints(
    command: Command, photos: Path, weights: Path, tmp_path: Path, monkeypatch, kind: str, says: str
):
    monkeypatch.chdir(tmp_path)
    path = bad_checkpoints(tmp_path, weights)[kind]
    status, _, stderr = command("reconstruct", photos, tmp_path / "out", "--model", path)
    assert status == 1 and not (tmp_path / "out").exists() and not (tmp_path / "harmed").exists()
    one_sentence(stderr, says)


def test_output_folder_that_holds_something_else(
    command: Command, photos: Path, weights: Path, tmp_path: Path
):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.txt").write_text("years of work")
    status, _, stderr = command("reconstruct", photos, tmp_path / "out", "--model", weights)
    assert status == 1 and (tmp_path / "out" / "thesis.txt").read_text() == "years of work"
    one_sentence(stderr, "--overwrite")
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["thesis.txt"]


def test_full_disk(command: Command, photos: Path, weights: Path, tmp_path: Path, monkeypatch):
    def full(*_args: object, **_kwargs: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    status, _, stderr = command("reconstruct", photos, tmp_path / "out", "--model", weights)
    assert status == 1
    one_sentence(stderr, "space")
    left = [p for p in tmp_path.rglob("*") if p.is_file() and p.parent != photos]
    assert left == []


def test_unknown_names_are_misuse(command: Command, photos: Path, weights: Path, tmp_path: Path):
    line = ("reconstruct", photos, tmp_path / "out")
    for wrong, part in (
        (("--model", "vgg-1b"), "vgg-1b"),
        (("--model", weights, "--accel", "denze"), "denze"),
        (("--model", weights, "--accel", "0-9:dense"), "0-9"),
        (("--model", weights, "--to", "colmop"), "colmop"),
        (("--model", weights, "--device", "cuda:9"), "cuda:9"),
        (("--model", weights, "--image-size", "3"), "3"),
    ):
        status, _, stderr = command(*line, *wrong)
        assert status == 2, (wrong, stderr)
        one_sentence(stderr, part)
    assert not (tmp_path / "out").exists()


def test_too_large_for_the_memory(command: Command, photos: Path, weights: Path, tmp_path: Path):
    line = ("reconstruct", photos, tmp_path / "out", "--model", weights, "--image-size", 280)
    status, _, stderr = command(*line, "--memory-limit-gib", 0.056)
    assert status == 1 and not (tmp_path / "out").exists()
    one_sentence(stderr, "What would fit", "--max-frames", "--image-size")


def test_view_and_export_of_what_is_no_result(command: Command, tmp_path: Path, photos: Path):
    for verb in (("export", photos, "--to", "ply"), ("view", tmp_path / "nothing")):
        status, _, stderr = command(*verb)
        assert status == 2, stderr
        one_sentence(stderr)


@pytest.mark.skipif(sys.platform == "win32", reason="signals")
def test_ctrl_c_in_the_middle(photos: Path, weights: Path, tmp_path: Path):
    # The forward pass announces itself and then takes for ever, so that the signal always meets it.
    script = LISTENS_TO_CTRL_C + (
        "import sys, time\n"
        "from manyview.models.vggt import trunk\n"
        "def slow(self, *a, **k):\n    print('running', flush=True)\n    time.sleep(60)\n"
        "trunk.Trunk.forward = slow\n"
        "from manyview.cli.main import main\n"
        "main(sys.argv[1:])\n"
    )
    line = [sys.executable, "-c", script, "reconstruct", str(photos), str(tmp_path / "out")]
    process = subprocess.Popen(
        [*line, "--model", str(weights)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline().strip() == "running"
    time.sleep(0.2)
    process.send_signal(signal.SIGINT)
    try:
        _, stderr = process.communicate(timeout=30)
    finally:
        process.kill()
    assert process.returncode == 1
    one_sentence(stderr, "Ctrl-C")
    assert not (tmp_path / "out").exists() or not any((tmp_path / "out").iterdir())
    assert hasattr(Trunk, "forward")


def test_debug_shows_the_traceback(photos: Path, tmp_path: Path, command: Command):
    with pytest.raises(Exception, match="nowhere"):
        command("--debug", "reconstruct", tmp_path / "nowhere", tmp_path / "out")


def test_grayscale_and_tiny_images_still_work(command: Command, weights: Path, tmp_path: Path):
    (tmp_path / "p").mkdir()
    Image.new("L", (64, 48), 90).save(tmp_path / "p" / "grey.png")
    status, stdout, stderr = command(
        "reconstruct", tmp_path / "p", tmp_path / "out", "--model", weights, "--to", "none"
    )
    assert status == 0, stderr
    assert stdout.index("quality:") < stdout.index("1 view in")
