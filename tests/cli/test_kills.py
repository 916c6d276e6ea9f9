"""A command that is killed leaves what was there or its whole result, and the same command finishes it."""

from __future__ import annotations

import errno
import functools
import itertools
import os
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import manyview
from manyview.cli import main
from manyview.errors import InputError, OutputError
from manyview.export import export
from manyview.files.lock import sole_writer
from manyview.reconstruction.result.load import load_reconstruction
from manyview.train.loop import run as train
from manyview.train.state import has_state, load_state
from tests.analytic_scene import room_scene
from tests.crashing import changes, every_death
from tests.train.tiny import tiny_config

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="there is no fork")
ANCHORS = ("--accel", "anchors:frames=1,cameras=anchors", "--chunk", "1")


@functools.cache
def parsed(line: tuple[object, ...]) -> Any:
    return main._parse([str(word) for word in line])


def go(line: tuple[object, ...]) -> None:
    assert parsed(line).run() == 0


def listing(folder: Path) -> list[str]:
    """Every file and empty folder, hidden ones too."""
    return sorted(
        path.relative_to(folder).as_posix()
        for path in folder.rglob("*")
        if path.is_file() or not any(path.iterdir())
    )


def content(folder: Path) -> tuple[list[str], dict[str, bytes], np.ndarray]:
    """All names, the bytes of the exports, and the depth of the result."""
    exports = {
        name: (folder / name).read_bytes()
        for name in listing(folder)
        if Path(name).suffix in {".ply", ".npz", ".png"}
    }
    return listing(folder), exports, load_reconstruction(folder).z_depth


def survives(
    before: Path | None, out: Path, line: tuple[object, ...], again: tuple[object, ...] | None = None
) -> int:
    """Kill `line` everywhere; `before` is what it finds in `out`. The number of places."""

    def prepare() -> None:
        shutil.rmtree(out, ignore_errors=True)
        if before is not None:
            shutil.copytree(before, out)

    old = None if before is None else load_reconstruction(before).z_depth
    prepare()
    go(line)
    wanted = content(out)
    count = 0
    for count in every_death(lambda: go(line), prepare, changes()):  # noqa: B007
        try:
            found = load_reconstruction(out).z_depth
        except InputError:
            assert old is None and not (out / "reconstruction.json").exists()
        else:
            assert any(one is not None and np.array_equal(found, one) for one in (old, wanted[2]))
        go(again or line)
        names, exports, z_depth = content(out)
        assert names == wanted[0] and exports == wanted[1]
        np.testing.assert_array_equal(z_depth, wanted[2])
        if before is not None:
            assert (out / "mine.txt").read_text() == "mine"
    return count + 1


@pytest.fixture
def earlier(photos: Path, tmp_path: Path) -> Path:
    """A result of other settings with exports, and a file of the user's."""
    folder = tmp_path / "earlier"
    go(("reconstruct", photos, folder, "--image-size", 42, "--to", "ply"))
    (folder / "mine.txt").write_text("mine")
    return folder


@pytest.fixture(autouse=True)
def _quick(unchecked: None, weights: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs follow each other by the dozen: the network is loaded once, and no speed is measured."""
    network = manyview.load(weights)
    monkeypatch.setattr("manyview.cli.options.ModelChoice.load", lambda _: network)
    monkeypatch.setattr("manyview.reconstruction.run.prepare.measure_flops", lambda *_: 1e9)


@pytest.mark.photos(2, 64, 48)
@pytest.mark.parametrize(
    ("how", "over"), [((), True), (ANCHORS, False)], ids=["whole over another", "chunks"]
)
def test_reconstruct(earlier: Path, photos: Path, tmp_path: Path, how: tuple[str, ...], over: bool) -> None:
    line = ("reconstruct", photos, tmp_path / "out", "--to", "ply", *how, *(("--overwrite",) if over else ()))
    assert survives(earlier if over else None, tmp_path / "out", line) > 6


@pytest.mark.photos(2, 64, 48)
@pytest.mark.parametrize("over", [False, True], ids=["new", "overwrite"])
def test_stream(photos: Path, tmp_path: Path, over: bool) -> None:
    line = ("stream", photos, tmp_path / "out", "--accel", "flash:r=2", "--chunk", 1, "--device", "cpu")
    before, again = None, (*line, "--resume")
    if over:
        before, line = tmp_path / "before", (*line, "--overwrite")
        again = line
        go(("stream", photos, before, "--accel", "flash:r=2", "--device", "cpu"))
        (before / "mine.txt").write_text("mine")
    assert survives(before, tmp_path / "out", line, again) > 6


def files(folder: Path) -> dict[str, bytes]:
    return {name: (folder / name).read_bytes() for name in listing(folder) if (folder / name).is_file()}


@pytest.mark.parametrize("over", [False, True], ids=["new", "overwrite"])
def test_export(tmp_path: Path, over: bool) -> None:
    """All of the old export or all of the new one, a file that goes and an edited one that stays included."""
    out, before = tmp_path / "out", tmp_path / "before"
    scene, larger = room_scene(views=2)[0], room_scene(views=4)[0]
    before.mkdir()
    if over:
        larger.export(before, "depth")
        larger.export(before, "ply")
        (before / "depth" / "view_3.png").write_bytes(b"mine")
    old = files(before)

    def prepare() -> None:
        shutil.rmtree(out, ignore_errors=True)
        shutil.copytree(before, out)

    prepare()
    scene.export(out, "depth", overwrite=over)
    new = files(out)
    assert ("depth/view_2.png" in old) == over and "depth/view_2.png" not in new
    for _ in every_death(lambda: scene.export(out, "depth", overwrite=over), prepare):
        with sole_writer(out):
            pass
        assert files(out) in (old, new)
        scene.export(out, "depth", overwrite=over)
        assert files(out) == new


def test_training(tmp_path: Path) -> None:
    out, config = tmp_path / "out", tiny_config(2, 1, checkpoint_minutes=0.0, evaluate_scenes=1)
    train(config, out)
    wanted = load_state(out)
    count = 0
    for count in every_death(lambda: train(config, out), lambda: shutil.rmtree(out), changes()):  # noqa: B007
        assert not has_state(out) or load_state(out).header["step"] in (1, 2)
        train(config, out)
        found = load_state(out)
        assert len(list(out.glob("state-*"))) == 1 and not list(out.glob(".manyview-*"))
        assert found.header["step"] == 2 and found.tensors.keys() == wanted.tensors.keys()
        for name, tensor in wanted.tensors.items():
            assert torch.equal(found.tensors[name], tensor), name
    assert count > 2


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EACCES, errno.EFBIG])
@pytest.mark.parametrize("write", ["save", "export"])
def test_a_system_that_refuses_at_any_point(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, write: str, number: int
) -> None:
    """A full disk, a lost permission: one sentence, and the old files or the new ones."""
    out, old, new = tmp_path / "out", room_scene(views=4)[0], room_scene(views=2)[0]

    def act(scene: manyview.Reconstruction) -> None:
        if write == "save":
            scene.save(out, overwrite=True)
        else:
            export(scene, out, "depth", overwrite=True)

    calls = 0
    plain = {name: getattr(os, name) for name in ("replace", "mkdir", "fsync", "open")}

    def refusing(name: str, point: int) -> Any:
        def call(*args: Any, **kwargs: Any) -> Any:
            nonlocal calls
            calls += 1
            if calls == point + 1:
                raise OSError(number, os.strerror(number), str(out))
            return plain[name](*args, **kwargs)

        return call

    for point in itertools.count():
        shutil.rmtree(out, ignore_errors=True)
        act(old)
        before = without_ids(out)
        calls = 0
        for name in plain:
            monkeypatch.setattr(os, name, refusing(name, point))
        try:
            act(new)
            failed = False
        except OutputError as error:
            failed = True
            assert str(out) in str(error)
        finally:
            monkeypatch.undo()
        with sole_writer(out):
            pass
        after = without_ids(out)
        act(new)
        assert after in (before, without_ids(out))
        assert not list(out.glob(".manyview-*"))
        if not failed and calls <= point:
            break
    assert point > 4


def without_ids(folder: Path) -> dict[str, bytes]:
    """All exported files, and the depth of the result."""
    found = files(folder)
    if found.pop("arrays.safetensors", None):
        found["reconstruction.json"] = load_reconstruction(folder).z_depth.tobytes()
    return found
