"""The scripts in examples/ run as their docstrings say."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"


def run(name: str, *arguments: str | Path) -> str:
    """What an example prints; it may warn of nothing."""
    command = [sys.executable, "-W", "error::DeprecationWarning:__main__", EXAMPLES / name, *arguments]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "OMP_NUM_THREADS": "1"}
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_every_example_is_run_here() -> None:
    text = Path(__file__).read_text(encoding="utf-8")
    assert all(f'"{path.name}"' in text for path in EXAMPLES.glob("*.py"))


def test_arrays() -> None:
    assert "(6, 3, 4)" in run("arrays.py")


def test_own_attention() -> None:
    assert "RandomKeys" in run("own_attention.py")


@pytest.mark.photos(3, 96, 80)
def test_photos_to_colmap(photos: Path, tmp_path: Path) -> None:
    said = run("photos_to_colmap.py", photos, tmp_path / "out", "--accel", "dense")
    assert "3 views, dense attention" in said
    assert (tmp_path / "out" / "colmap" / "sparse" / "0" / "images.bin").is_file()


@pytest.mark.photos(5, 96, 80)
def test_live_stream(photos: Path) -> None:
    assert "frames 0 to 3" in (said := run("live_stream.py", photos)) and "frames 4 to 4" in said
