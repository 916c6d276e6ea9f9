"""The output folder of a command: one writer at a time, no links followed, nothing of others touched."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image

from manyview import load_reconstruction
from manyview.errors import OutputError
from manyview.files.lock import LOCK_NAME, sole_writer
from manyview.files.transaction import COMMIT_NAME, commit, output_path, staging
from tests.analytic_scene import room_scene
from tests.crashing import dies_at

from .conftest import Command

_HOLDS = """
import sys, time
from pathlib import Path
from manyview.files.lock import sole_writer
with sole_writer(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(600)
"""


@pytest.fixture
def held(tmp_path: Path) -> Iterator[tuple[Path, subprocess.Popen[str]]]:
    """A folder that another process writes to, and that process."""
    out = tmp_path / "out"
    with subprocess.Popen(
        [sys.executable, "-c", _HOLDS, str(out)], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None and process.stdout.readline() == "held\n"
        yield out, process
        process.kill()


def content(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def test_the_second_writer_gets_one_sentence_at_once(
    command: Command, held: tuple[Path, subprocess.Popen[str]], photos: Path, weights: Path
) -> None:
    out, process = held
    before = content(out)
    options = ("--model", weights, "--to", "none", "--overwrite")
    for line in (
        ("reconstruct", photos, out, *options),
        ("reconstruct", photos, out, *options, "--accel", "anchors:frames=2", "--chunk", 1),
        ("stream", photos, out, *options, "--accel", "flash:r=2"),
        ("train", "base", "--out", out),
    ):
        status, _, stderr = command(*line)
        assert status == 1 and stderr.splitlines()[-1].startswith("manyview: ")
        assert str(out) in stderr and f"process {process.pid}" in stderr
    for write in (room_scene(views=1)[0].save, lambda folder: room_scene(views=1)[0].export(folder, "ply")):
        with pytest.raises(OutputError, match=f"out.*{process.pid}"):
            write(out)
    assert content(out) == before


def test_a_dead_writer_is_in_nobodys_way(
    command: Command, held: tuple[Path, subprocess.Popen[str]], photos: Path, weights: Path
) -> None:
    out, process = held
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert (out / LOCK_NAME).exists()
    left = out / ".manyview-partial-999999999-0123abcd"
    left.mkdir()
    (left / "half.png").write_bytes(b"half")
    status, _, stderr = command("reconstruct", photos, out, "--model", weights, "--to", "none")
    assert status == 0, stderr
    assert sorted(path.name for path in out.iterdir()) == ["arrays.safetensors", "reconstruction.json"]


def test_one_thread_may_hold_a_folder_twice(tmp_path: Path) -> None:
    with sole_writer(tmp_path / "out"), sole_writer(tmp_path / "out"):
        room_scene(views=1)[0].save(tmp_path / "out")
    assert not (tmp_path / "out" / LOCK_NAME).exists()


@pytest.mark.parametrize("name", ["reconstruction.json", "arrays.safetensors", "images", "points.ply"])
def test_links_in_the_folder_are_not_followed(
    command: Command, photos: Path, weights: Path, tmp_path: Path, name: str
) -> None:
    out, outside = tmp_path / "out", tmp_path / "outside"
    out.mkdir()
    outside.mkdir()
    (outside / "file").write_text("mine")
    (out / name).symlink_to(outside if name == "images" else outside / "file")
    line = ("reconstruct", photos, out, "--model", weights, "--to", "ply", "nerfstudio", "--overwrite")
    status, _, stderr = command(*line)
    assert status == 1 and name in stderr.splitlines()[-1]
    assert content(outside) == {str(outside / "file"): b"mine"} and (out / name).is_symlink()


def test_links_in_place_of_hidden_files_are_not_followed(
    command: Command, photos: Path, weights: Path, tmp_path: Path
) -> None:
    out, mine = tmp_path / "out", tmp_path / "mine"
    line = ("reconstruct", photos, out, "--model", weights, "--to", "none", "--overwrite")
    line = (*line, "--accel", "anchors:frames=2", "--chunk", 1)
    assert dies_at(0, lambda: command(*line), ("replace",))  # the arrays are there, none of them in place
    (rows,) = out.glob(".manyview-partial-long-*.rows")
    for hidden in (rows.with_suffix(""), rows, out / LOCK_NAME, out / COMMIT_NAME):
        mine.write_text("mine")
        hidden.unlink(missing_ok=True)
        hidden.symlink_to(mine)
        status, _, stderr = command(*line)
        assert status == 1 and hidden.name in stderr.splitlines()[-1]
        assert mine.read_text() == "mine"
        hidden.unlink()


@pytest.mark.parametrize("kind", ["below a file", "dangling", "loop"])
def test_an_output_folder_that_cannot_be_is_refused_before_the_run(
    command: Command, photos: Path, tmp_path: Path, kind: str
) -> None:
    out = tmp_path / "bad"
    if kind == "below a file":
        out.write_text("x")
        out = out / "out"
    else:
        out.symlink_to(out if kind == "loop" else tmp_path / "nowhere")
    # The weights would be missed first otherwise.
    status, _, stderr = command("reconstruct", photos, out, "--model", tmp_path / "no.safetensors")
    assert status == 1 and "bad" in stderr and "no.safetensors" not in stderr
    status, _, stderr = command("stream", photos, out, "--model", tmp_path / "no.safetensors")
    assert status == 1 and "bad" in stderr and "no.safetensors" not in stderr


def test_a_rerun_writes_what_is_missing(
    command: Command, photos: Path, weights: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    line = ("reconstruct", photos, out, "--model", weights, "--to", "ply")
    assert command(*line)[0] == 0
    arrays = (out / "arrays.safetensors").stat().st_mtime_ns
    status, _, stderr = command(*line, "depth")
    assert status == 0 and (out / "depth" / "depth.json").is_file(), stderr
    (out / "points.ply").unlink()
    assert command(*line)[0] == 0 and (out / "points.ply").is_file()
    stamp = (out / "points.ply").stat().st_mtime_ns
    assert command(*line)[0] == 0
    assert (out / "points.ply").stat().st_mtime_ns == stamp
    assert (out / "arrays.safetensors").stat().st_mtime_ns == arrays


def test_exports_of_an_earlier_result_are_not_taken_for_those_of_this_one(
    command: Command, photos: Path, weights: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    line = ("reconstruct", photos, out, "--model", weights)
    assert command(*line, "--to", "ply")[0] == 0
    old = (out / "points.ply").read_bytes()
    assert command(*line, "--image-size", 42, "--to", "none", "--overwrite")[0] == 0
    assert command(*line, "--image-size", 42, "--to", "ply")[0] == 0
    assert (out / "points.ply").read_bytes() != old


def test_a_manifest_cannot_reach_outside(tmp_path: Path) -> None:
    victim = tmp_path / "victim.txt"
    victim.write_text("mine")
    scene, out = room_scene(views=2)[0], tmp_path / "out"
    scene.export(out, "ply")
    path = out / "manyview-export.json"
    manifest = json.loads(path.read_text())
    files = manifest["exports"]["ply"]["files"]
    digest = hashlib.sha256(b"mine").hexdigest()
    for name in ("../victim.txt", str(victim)):
        manifest["exports"]["ply"]["files"] = {**files, name: digest}
        path.write_text(json.dumps(manifest))
        with pytest.raises(OutputError, match="victim"):
            scene.export(out, "ply", overwrite=True)
        assert victim.read_text() == "mine"


@pytest.mark.parametrize(
    "record",
    [
        b"{}",
        b'{"moves": {"../a": ".manyview-partial-1/x"}, "removals": [], "before": {}}',
        b'{"moves": {"a": "../victim.txt"}, "removals": [], "before": {}}',
        b'{"moves": {"a": "mine.txt"}, "removals": [], "before": {}}',
        b'{"moves": {}, "removals": ["../victim.txt"], "before": {"../victim.txt": null}}',
        b'{"moves": {}, "removals": ["mine.txt"], "before": {"mine.txt": [1, 2]}}',
        b"[" * 100_000,
    ],
)
def test_a_foreign_record_moves_and_removes_nothing(tmp_path: Path, record: bytes) -> None:
    out = tmp_path / "out"
    room_scene(views=1)[0].save(out)
    (tmp_path / "victim.txt").write_text("mine")
    (out / "mine.txt").write_text("mine")
    (out / COMMIT_NAME).write_bytes(record)
    try:
        load_reconstruction(out)
    except OutputError as error:
        assert COMMIT_NAME in str(error) or str(out) in str(error)
    assert (tmp_path / "victim.txt").read_text() == (out / "mine.txt").read_text() == "mine"
    assert not (tmp_path / "a").exists() and not (out / "a").exists()


def test_a_file_that_changed_after_a_kill_is_not_replaced(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("old")
    with staging(tmp_path) as stage:
        (stage / "a").write_text("new")
        with pytest.raises(PermissionError):
            # Killed as it moves: the record is there, the file is not moved.
            replace, os.replace = os.replace, _refused_for_a
            try:
                commit(tmp_path, {"a": stage / "a"})
            finally:
                os.replace = replace
    (tmp_path / "a").write_text("edited since")
    with pytest.raises(OutputError, match="/a"), sole_writer(tmp_path):
        pass
    assert (tmp_path / "a").read_text() == "edited since"
    (tmp_path / "a").unlink()
    with sole_writer(tmp_path):
        assert (tmp_path / "a").read_text() == "new"


_replace = os.replace


def _refused_for_a(source: Path, target: Path) -> None:
    if Path(target).name == "a":
        raise PermissionError
    _replace(source, target)


def test_names_lead_below_the_folder(tmp_path: Path) -> None:
    assert output_path(tmp_path, "a/b .txt") == tmp_path / "a" / "b .txt"
    for name in ("", "/etc/x", "..", "a/../../x", "a\0b"):
        with pytest.raises(OutputError):
            output_path(tmp_path, name)


def test_resuming_a_stream_notices_changed_images(
    command: Command, photos: Path, weights: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    line = ("stream", photos, out, "--model", weights, "--accel", "flash:r=2", "--chunk", 1, "--to", "none")
    last = photos / "3.png"
    good = last.read_bytes()
    last.write_bytes(good[:100])
    assert command(*line, "--strict")[0] == 1
    assert command(*line, "--resume", "--strict")[0] == 1
    first = photos / "0.png"
    kept = first.read_bytes()
    Image.new("RGB", (64, 48)).save(first)
    last.write_bytes(good)
    status, _, stderr = command(*line, "--resume", "--strict")
    assert status == 2 and "0.png" in stderr
    first.write_bytes(kept)
    status, _, stderr = command(*line, "--resume", "--strict")
    assert status == 0, stderr
    assert len(load_reconstruction(out)) == 4


def test_a_failed_stream_can_be_started_as_it_advises(
    command: Command, photos: Path, weights: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    line = ("stream", photos, out, "--model", weights, "--accel", "flash:r=2", "--to", "none")
    Image.new("RGB", (48, 64)).save(photos / "2.png")
    status, _, stderr = command(*line, "--chunk", 4)
    assert status != 0 and "--size-policy pad" in stderr
    assert not out.exists()
    status, _, stderr = command(*line, "--chunk", 1)
    assert status != 0 and "--overwrite" in stderr and str(out) in stderr
    status, _, stderr = command(*line, "--chunk", 1, "--size-policy", "pad", "--overwrite")
    assert status == 0, stderr
