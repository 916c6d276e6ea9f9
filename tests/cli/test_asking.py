"""What is refused before any work, and what a closed or full output does to a run."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

import manyview
from manyview.errors import InputError, OutputError, UsageError
from manyview.export import export
from manyview.files.writing import check_writable, output_errors
from manyview.reconstruction.result.arrays import array_bytes
from manyview.reconstruction.run.options import ReconstructOptions

from .conftest import Command


@pytest.mark.parametrize(
    ("args", "part"),
    [
        ((), "reconstruct"),
        (("frobnicate",), "frobnicate"),
        (("reconstruct", "a", "b", "--max-frame", "3"), "--max-frame"),
        (("reconstruct", "a", "b", "--fps", "many"), "--fps"),
        (("export", "a"), "--to"),
        (("export", "a", "--to", "colmap", "--images", "wrong"), "--images"),
        (("evaluate", "real"), "real"),
    ],
)
def test_a_wrong_command_line_is_one_sentence(command: Command, args: tuple[str, ...], part: str):
    status, stdout, stderr = command(*args)
    assert status == 2 and not stdout
    assert stderr.startswith("manyview: ") and stderr.count("\n") == 1
    assert part in stderr and "--help" in stderr and "│" not in stderr


def test_a_terminal_without_unicode_gets_the_same_sentence():
    line = [sys.executable, "-m", "manyview.cli.main", "models", "--nosuch"]
    environment = {**os.environ, "PYTHONIOENCODING": "ascii", "LC_ALL": "C"}
    run = subprocess.run(line, capture_output=True, text=True, env=environment)
    assert run.returncode == 2 and "--nosuch" in run.stderr and "---" not in run.stderr, run.stderr


def test_help_is_still_help(command: Command):
    status, stdout, stderr = command("reconstruct", "--help")
    assert status == 0 and "--max-frames" in stdout and not stderr


def test_help_does_not_load_pytorch():
    code = "import sys; from manyview.cli.main import run; run(['--help']); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], stdout=subprocess.DEVNULL).returncode == 0


def test_a_misspelt_input_is_reported_before_weights_are_looked_for(command: Command, tmp_path: Path):
    line = ("reconstruct", tmp_path / "nowhere", tmp_path / "out", "--model", tmp_path / "none.safetensors")
    status, _, stderr = command(*line)
    assert status == 2 and "nowhere" in stderr and "weights" not in stderr


def test_the_input_folder_is_never_the_output(command: Command, photos: Path, weights: Path):
    before = sorted(photos.iterdir())
    status, _, stderr = command("reconstruct", photos, photos / ".", "--model", weights, "--overwrite")
    assert status == 2 and "is the input" in stderr
    assert sorted(photos.iterdir()) == before


def test_no_space_is_reported_before_the_forward_pass(
    command: Command, photos: Path, weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    def full(folder: Path, needed: int) -> None:
        raise OutputError(f"{folder}: needs {needed}")

    monkeypatch.setattr("manyview.files.writing.require_space", full)
    monkeypatch.setattr("manyview.reconstruction.run.whole.run_forward", pytest.fail)
    status, _, stderr = command("reconstruct", photos, tmp_path / "out", "--model", weights)
    assert status == 1 and f"needs {4 * 42 * 56 * 11}" in stderr


def test_array_bytes_are_those_of_the_result(command: Command, photos: Path, weights: Path, tmp_path: Path):
    status, _, stderr = command(
        "reconstruct", photos, tmp_path / "out", "--model", weights, "--to", "none", "--point-head"
    )
    assert status == 0, stderr
    scene = manyview.load_reconstruction(tmp_path / "out")
    pixels = (scene.images, scene.z_depth, scene.depth_conf, scene.head_points, scene.head_points_conf)
    views, height, width, _ = scene.images.shape
    assert sum(a.nbytes for a in pixels if a is not None) == array_bytes(
        (views, 3, height, width), ("points",)
    )


def test_others_may_read_a_result(command: Command, photos: Path, weights: Path, tmp_path: Path):
    before = os.umask(0o027)
    try:
        assert command("reconstruct", photos, tmp_path / "out", "--model", weights, "--to", "none")[0] == 0
    finally:
        os.umask(before)
    for name in ("arrays.safetensors", "reconstruction.json"):
        assert stat.S_IMODE((tmp_path / "out" / name).stat().st_mode) == 0o640


def test_permissions(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    # The tests may run as root, who may do everything.
    monkeypatch.setattr(os, "access", lambda path, mode: Path(path) != tmp_path)
    with pytest.raises(OutputError, match=tmp_path.name):
        check_writable(tmp_path / "new" / "deeper")
    with pytest.raises(OutputError, match=tmp_path.name), output_errors(tmp_path, 1):
        raise RuntimeError("I/O error: Permission denied (os error 13)")


def test_arrays_that_may_not_be_read_are_not_called_damaged(
    command: Command, photos: Path, weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    assert command("reconstruct", photos, tmp_path / "out", "--model", weights, "--to", "none")[0] == 0
    (tmp_path / "out" / "arrays.safetensors").write_bytes(b"cannot be opened")
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    with pytest.raises(InputError, match=r"arrays\.safetensors"):
        manyview.load_reconstruction(tmp_path / "out")


@pytest.mark.parametrize("closing", ["| head -1", ">&-", ">&- 2>&-"])
def test_a_run_that_nobody_listens_to_is_kept(photos: Path, weights: Path, tmp_path: Path, closing: str):
    start = f"'{sys.executable}' -m manyview.cli.main reconstruct '{photos}' '{tmp_path / 'out'}'"
    line = f"{start} --model '{weights}' --to none --max-frames 2 {closing}; exit ${{PIPESTATUS[0]}}"
    run = subprocess.run(["bash", "-c", line], capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    assert "Traceback" not in run.stderr and "Exception ignored" not in run.stderr
    assert len(manyview.load_reconstruction(tmp_path / "out")) == 2


def test_evaluate_asks_for_its_file_first(command: Command, weights: Path, tmp_path: Path):
    status, stdout, stderr = command(
        "evaluate", "synthetic", "--model", weights, "--json", tmp_path / "no" / "t.json"
    )
    assert status == 1 and not stdout and "t.json" in stderr


def test_options_out_of_range(command: Command, photos: Path, weights: Path, tmp_path: Path):
    with pytest.raises(UsageError, match="image_size"):
        ReconstructOptions(image_size=0)
    status, _, stderr = command("train", "base", "--out", tmp_path / "t", "--minutes", "-1")
    assert status == 2 and "minutes" in stderr
    assert command("reconstruct", photos, tmp_path / "out", "--model", weights, "--to", "none")[0] == 0
    scene = manyview.load_reconstruction(tmp_path / "out")
    for name in ("colmap", "nerfstudio"):
        with pytest.raises(UsageError, match="images"):
            export(scene, tmp_path / "e", name, {"images": "wrong"})


def test_sigterm_stops_in_order_after_a_library_has_taken_the_signal():
    pytest.importorskip("pycolmap", reason="the COLMAP export needs the extra 'colmap'")
    script = """
import os, signal, threading, time
from manyview.cli.console import stopped_by_sigterm
def load():
    import pycolmap
try:
    with stopped_by_sigterm():
        thread = threading.Thread(target=load)
        thread.start()
        thread.join()
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(20)
except KeyboardInterrupt:
    print("stopped")
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout, done.stderr) == (0, "stopped\n", "")
