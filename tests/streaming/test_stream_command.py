"""`manyview stream` and `manyview.stream`: folders, videos, killed runs, growing folders, what is refused."""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import manyview
from manyview.errors import UsageError
from manyview.files.array_file import ArrayFile
from manyview.models.info import ModelInfo
from manyview.models.run_options import RunOptions
from manyview.streaming.anchors import AnchorOptions
from manyview.streaming.recursive import RecursiveEngine, RecursiveOptions
from manyview.streaming.stream import StreamOptions, engine_options
from tests import wrong_types_allowed
from tests.cli.conftest import Command
from tests.models.tiny import tiny_vggt

SMALL = ("--accel", "flash:r=2", "--chunk", 2, "--to", "none", "--device", "cpu")


def _picture(path: Path, seed: int, size: tuple[int, int] = (64, 48)) -> None:
    small = np.random.default_rng(seed).integers(0, 255, (6, 8, 3), dtype=np.uint8)
    Image.fromarray(small).resize(size).save(path)


@pytest.fixture
def frames(tmp_path: Path) -> Path:
    """Seven pictures in order."""
    folder = tmp_path / "frames"
    folder.mkdir()
    for index in range(7):
        _picture(folder / f"{index:03d}.png", index)
    return folder


def test_masks_hide_pixels_of_the_result(command: Command, frames: Path, weights: Path, tmp_path: Path):
    (tmp_path / "masks").mkdir()
    Image.new("L", (32, 24)).save(tmp_path / "masks" / "002.jpg")
    line = ("stream", frames, tmp_path / "out", "--model", weights, *SMALL)
    status, _, told = command(*line, "--masks", tmp_path / "nowhere")
    assert status == 2 and "nowhere" in told
    status, _, told = command(*line, "--masks", tmp_path / "masks")
    assert status == 0, told
    scene = manyview.load_reconstruction(tmp_path / "out")
    assert scene.masked is not None and scene.settings["masks"]["views"] == 1
    np.testing.assert_array_equal(scene.valid.any((1, 2)), [name != "002.png" for name in scene.names])


def test_a_folder_becomes_what_reconstruct_writes(
    command: Command, frames: Path, weights: Path, tmp_path: Path
):
    out = tmp_path / "out"
    options = ("--model", weights, "--accel", "flash:r=2", "--chunk", 3, "--cameras", "revised")
    status, said, told = command("stream", frames, out, *options)
    assert status == 0, told
    assert "7 frames in chunks of 3" in said and (out / "points.ply").is_file()
    scene = manyview.load_reconstruction(out)
    assert scene.names == tuple(f"{i:03d}.png" for i in range(7)) and scene.images.shape == (7, 42, 56, 3)
    engine = RecursiveEngine(tiny_vggt(), RecursiveOptions("flash:r=2", revise=True))
    images = torch.from_numpy(scene.images.copy()).permute(0, 3, 1, 2)
    updates = [engine.push(part) for part in images.split(3)]
    np.testing.assert_array_equal(scene.z_depth, torch.cat([u.z_depth for u in updates]).numpy())
    np.testing.assert_array_equal(scene.cam_from_world, engine.cameras()[0].double().numpy())
    log = [json.loads(line) for line in (out / "stream" / "log.jsonl").read_text().splitlines()]
    assert [(line["first"], line["frames"]) for line in log] == [(0, 3), (3, 3), (6, 1)]
    assert [line["memory_bytes"] for line in log] == [u.memory_bytes for u in updates]
    assert all(line["ms_per_frame"] > 0 for line in log)
    assert {path.name for path in (out / "stream").iterdir()} == {"stream.json", "log.jsonl"}
    status, said, _ = command("stream", frames, out, *options, "--resume")
    assert status == 0 and "already holds" in said
    assert command("stream", frames, out, *options)[0] == 1
    assert command("stream", frames, out, *options, "--overwrite")[0] == 0
    assert command("export", out, "--to", "npz")[0] == 0


_SLOW = """
import sys, time
from manyview.streaming.anchors import AnchorOptions
from manyview.streaming.recursive import RecursiveEngine
push = RecursiveEngine.push
def slow(self, images):
    if self.frames >= 4:
        print("third chunk", flush=True)
        time.sleep(60)
    return push(self, images)
RecursiveEngine.push = slow
from manyview.cli.main import main
main()
"""


def test_a_killed_run_goes_on_to_the_same_result(
    command: Command, frames: Path, weights: Path, tmp_path: Path
):
    line = [str(x) for x in ("stream", frames, "OUT", "--model", weights, "--precision", "fp32", *SMALL)]
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    assert command(*[whole if item == "OUT" else item for item in line])[0] == 0
    args = [str(killed) if item == "OUT" else item for item in line]
    with subprocess.Popen(
        [sys.executable, "-c", _SLOW, *args],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    ) as run:
        assert run.stdout is not None
        while "third chunk" not in run.stdout.readline():
            assert run.poll() is None
        run.send_signal(signal.SIGKILL)
    assert not (killed / "reconstruction.json").exists()
    # As if the kill had come after a chunk was written and before its state was.
    chunk = killed / "stream" / "chunk-000001.safetensors"
    (killed / "stream" / "chunk-000002.safetensors").write_bytes(chunk.read_bytes())
    with (killed / "stream" / "log.jsonl").open("a") as log:
        log.write('{"chunk": 2, "fir')
    assert command(*args)[0] == 1  # a stream is there: resume or overwrite
    status, _, told = command(*args, "--resume", "--keep-one-in", 2)
    assert status == 2 and "another engine options" in told
    status, said, told = command(*args, "--resume")
    assert status == 0, told
    assert "going on after 4 frames" in said
    a, b = (manyview.load_reconstruction(folder) for folder in (whole, killed))
    for name in ("images", "cam_from_world", "intrinsics", "z_depth", "depth_conf"):
        np.testing.assert_array_equal(getattr(a, name), getattr(b, name))
    assert a.names == b.names and a.settings == b.settings
    assert len((killed / "stream" / "log.jsonl").read_text().splitlines()) == 4


def test_state_that_is_written_seldom_is_caught_up(
    frames: Path, weights: Path, tmp_path: Path, command: Command, monkeypatch
):
    line = ("stream", frames, tmp_path / "out", "--model", weights, *SMALL, "--state-every", 2)
    push = RecursiveEngine.push

    def broken(self: RecursiveEngine, images: torch.Tensor):
        if self.frames == 6:
            raise OSError(28, "No space left on device", "disk")
        return push(self, images)

    def full(*arguments: object):
        raise OSError(28, "No space left on device", "disk")

    with monkeypatch.context() as patch:
        patch.setattr(RecursiveEngine, "push", broken)
        assert command(*line)[0] == 1
    with monkeypatch.context() as patch:
        patch.setattr(ArrayFile, "write", full)
        status, said, told = command(*line, "--resume")
        assert status == 1 and "going on after 4 frames" in said and "disk is full" in told
    assert not (tmp_path / "out" / "reconstruction.json").exists()
    status, said, told = command(*line, "--resume")
    assert status == 0 and "going on after 7 frames" in said, told
    assert len(manyview.load_reconstruction(tmp_path / "out")) == 7


def test_frames_without_a_camera_are_left_out(
    frames: Path, weights: Path, tmp_path: Path, command: Command, monkeypatch
):
    push = RecursiveEngine.push

    def blind(self: RecursiveEngine, images: torch.Tensor):
        update = push(self, images)
        if update.first == 2:
            update.cam_from_world[1] = float("nan")
        return update

    monkeypatch.setattr(RecursiveEngine, "push", blind)
    status, said, told = command("stream", frames, tmp_path / "out", "--model", weights, *SMALL)
    assert status == 0 and "1 of 7 views left out" in said, told
    scene = manyview.load_reconstruction(tmp_path / "out")
    assert scene.names == tuple(f"{i:03d}.png" for i in (0, 1, 2, 4, 5, 6))


def test_a_growing_folder_is_followed(command: Command, weights: Path, tmp_path: Path):
    folder = tmp_path / "grows"
    folder.mkdir()

    def grow() -> None:
        for index in range(3):
            time.sleep(0.3)
            _picture(folder / f"{index}.png", index)

    thread = threading.Thread(target=grow)
    thread.start()
    status, _, told = command(
        "stream", folder, tmp_path / "out", "--model", weights, *SMALL, "--follow-s", 1.2
    )
    thread.join()
    assert status == 0, told
    status, _, told = command("stream", folder / "0.png", tmp_path / "b", "--model", weights, "--follow-s", 1)
    assert status == 2 and "--follow-s" in told
    assert manyview.load_reconstruction(tmp_path / "out").names == ("0.png", "1.png", "2.png")


def test_damage_and_other_shapes_are_reported(command: Command, frames: Path, weights: Path, tmp_path: Path):
    (frames / "003.png").write_bytes(b"\x89PNG\r\n\x1a\n damaged")
    status, said, told = command("stream", frames, tmp_path / "a", "--model", weights, *SMALL)
    assert status == 0 and "003.png left out" in said, told
    assert len(manyview.load_reconstruction(tmp_path / "a")) == 6
    assert command("stream", frames, tmp_path / "b", "--model", weights, *SMALL, "--strict")[0] == 1
    _picture(frames / "005.png", 5, (48, 64))
    status, _, told = command("stream", frames, tmp_path / "c", "--model", weights, *SMALL)
    assert status == 2 and "005.png becomes 42x56" in told and "--size-policy pad" in told
    status, _, told = command(
        "stream", frames, tmp_path / "d", "--model", weights, *SMALL, "--size-policy", "pad"
    )
    assert status == 0, told


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("--chunk", 0), "at least 1"),
        (("--accel", "dense"), "--accel flash"),
        (("--keep-one-in", 0), "at least 1"),
        (("--stride", 0), "stride must be at least 1"),
        (("--follow-s", 1, "--max-frames", 2), "still grows"),
    ],
)
def test_misuse_raises(arguments, sentence, command: Command, frames: Path, weights: Path, tmp_path: Path):
    status, _, told = command("stream", frames, tmp_path / "out", "--model", weights, *arguments)
    assert status == 2 and sentence in told
    assert not (tmp_path / "out").exists()


def test_python_objects_stream_like_files(frames: Path):
    model = tiny_vggt()
    options = {"chunk": 2, "accel": "flash:r=2", "device": "cpu"}
    want = list(manyview.stream(frames, model, **options))
    assert [(u.first, len(u)) for u in want] == [(0, 2), (2, 2), (4, 2), (6, 1)]
    files = sorted(frames.iterdir())
    arrays = [np.asarray(Image.open(file)) for file in files]
    for items in (files, map(Image.open, files), arrays):
        got = list(manyview.stream(items, model, **options))
        assert all(torch.equal(a.z_depth, b.z_depth) for a, b in zip(got, want, strict=True))


def test_a_generator_is_read_no_further_than_asked():
    taken = []

    def camera():
        for number in range(100):
            taken.append(number)
            yield torch.rand(3, 28, 28)

    engine = RecursiveEngine(tiny_vggt(), RecursiveOptions("flash:r=2"), RunOptions())
    updates = manyview.stream(camera(), tiny_vggt(), engine, chunk=2)
    assert taken == []
    assert next(updates).first == 0 and next(updates).first == 2
    assert len(taken) == 4 and engine.frames == 4


def test_wrong_use_in_python():
    model = tiny_vggt()
    with pytest.raises(UsageError, match="'other'"):
        manyview.stream([], model, "other")
    with pytest.raises(UsageError, match="budget"):
        manyview.stream([], model, "chunks", budget=3)
    with pytest.raises(UsageError, match="chunk"):
        manyview.stream([], model, chunk=0)
    with pytest.raises(UsageError, match="int"):
        list(manyview.stream([3], model, accel="flash:r=2", device="cpu"))


def test_the_old_order_of_arguments_warns_once_and_works(frames: Path):
    model, options = tiny_vggt(), {"chunk": 7, "accel": "flash:r=2", "device": "cpu"}
    (want,) = manyview.stream(frames, model, **options)
    with wrong_types_allowed(), pytest.warns(DeprecationWarning, match=r"stream\(frames, model\)") as warned:
        (got,) = manyview.stream(model, frames, **options)
    assert len(warned) == 1 and torch.equal(got.z_depth, want.z_depth)


def test_typed_options_are_those_of_the_engines():
    fields = {f.name for kind in (RecursiveOptions, AnchorOptions) for f in dataclasses.fields(kind)}
    assert set(StreamOptions.__annotations__) == fields


def test_anchors_run_through_the_same_command(command: Command, frames: Path, weights: Path, tmp_path: Path):
    line = ("stream", frames, tmp_path / "out", "--model", weights, "--engine", "anchors", "--to", "none")
    small = ("--accel", "anchors:frames=2", "--start", 4, "--beyond", 0, "--chunk", 3, "--device", "cpu")
    status, said, told = command(*line, *small)
    assert status == 0, told
    assert "7 frames in chunks of 3" in said
    assert len(manyview.load_reconstruction(tmp_path / "out")) == 7
    status, _, told = command(*line, "--overwrite", "--keep-one-in", 5)
    assert status == 2 and "no option keep_one_in" in told
    status, _, told = command(*line, "--overwrite", "--cameras", "revised")
    assert status == 2 and "--engine chunks" in told


def test_weights_tell_the_descriptors_they_were_trained_for():
    model = tiny_vggt()
    assert engine_options("chunks", model, {}).accel == "flash:r=2"
    for plan, accel in (("flash:version=v2", "flash:version=v2"), ("anchors", "flash:r=2")):
        model.info = ModelInfo("tiny", "here", None, None, "0", {}, plan=plan)
        assert engine_options("chunks", model, {}).accel == accel
    assert engine_options("chunks", model, {"accel": "flash"}).accel == "flash"
