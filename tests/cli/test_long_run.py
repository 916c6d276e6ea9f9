"""A run of an hour or more is started only when a person agrees; what would be faster is named."""

from __future__ import annotations

import dataclasses
import io
from pathlib import Path

import pytest
import torch

from manyview.attention.plan import Plan
from manyview.models.vggt.config import VGGTConfig
from manyview.reconstruction.plan.machine import Machine
from manyview.reconstruction.plan.preflight import Preflight, Request, run_options_candidates
from manyview.reconstruction.plan.shorter import shorter_ways
from manyview.reconstruction.run.engine import reconstruct

from .conftest import Command


@pytest.fixture
def slow(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine on which the four photos take hours."""
    monkeypatch.setattr("manyview.reconstruction.run.prepare.measure_flops", lambda *_: 1e3)


def at_terminal(answer: str, monkeypatch: pytest.MonkeyPatch) -> None:
    stdin = io.StringIO(answer)
    monkeypatch.setattr(stdin, "isatty", lambda: True)
    monkeypatch.setattr("sys.stdin", stdin)
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)


def test_it_is_refused_where_nobody_can_be_asked(
    command: Command, photos: Path, weights: Path, tmp_path: Path, slow: None
):
    line = ("reconstruct", photos, tmp_path / "out", "--model", weights, "--to", "none")
    status, _, stderr = command(*line)
    assert status == 2 and not (tmp_path / "out").exists()
    assert "--yes" in stderr and " h" in stderr
    assert command(*line, "--yes")[0] == 0
    # Nothing is left to do: nothing is asked.
    assert command(*line)[0] == 0


@pytest.mark.parametrize(("answer", "expected"), [("y\n", 0), ("\n", 2), ("n\n", 2), ("", 2)])
def test_a_person_is_asked(
    command: Command, photos: Path, weights: Path, tmp_path: Path, slow: None,
    monkeypatch: pytest.MonkeyPatch, answer: str, expected: int,
):  # fmt: skip
    at_terminal(answer, monkeypatch)
    status, _, stderr = command("reconstruct", photos, tmp_path / "o", "--model", weights, "--to", "none")
    assert status == expected and "[y/N]" in stderr
    assert (tmp_path / "o").exists() == (expected == 0)


def test_python_is_not_asked(photos: Path, weights: Path, slow: None):
    from manyview import load

    assert len(reconstruct(photos, load(weights))) == 4


def expected_of(views: int, plan: str = "dense", hours: float = 38.0) -> Preflight:
    config = VGGTConfig()
    parsed = Plan.parse(plan, config.depth)
    request = Request(config, views, 392, 518, parsed, ("camera", "depth"), torch.float32)
    machine = Machine(torch.device("cpu"), "CPU", 2**40, 2**40)
    return Preflight(request, machine, next(run_options_candidates(request)), 2**30, 3600 * hours)


def test_the_plan_that_would_be_fast():
    many, middle = shorter_ways(expected_of(5000)), shorter_ways(expected_of(280, hours=1))
    assert many[0].startswith("--accel anchors") and many[1].startswith("--max-frames")
    assert middle[0].startswith("--accel avggt")
    # The plan that is already the fast one: fewer views only.
    assert [way.split()[0] for way in shorter_ways(expected_of(5000, "anchors"))] == ["--max-frames"]
    assert shorter_ways(dataclasses.replace(expected_of(2), seconds=None)) == []
    assert shorter_ways(expected_of(2)) == []


def test_a_video_says_how_many_frames_are_used(
    command: Command, weights: Path, shared_data: Path, monkeypatch: pytest.MonkeyPatch
):
    pytest.importorskip("av")
    video = shared_data / "video-short" / "robot_truncated_500k.mp4"
    videos = [path for path in sorted(video.parent.glob("*.mp4")) if path != video]
    line = ("plan", videos[0], "--model", weights, "--image-size", 28, "--end-s", 0.3)
    assert "--fps" not in command(*line)[1]
    monkeypatch.setattr("manyview.reconstruction.run.prepare.measure_flops", lambda *_: 1e5)
    status, stdout, stderr = command(*line)
    assert status == 0, stderr
    assert "frames of the video" in stdout and "--fps" in stdout and "--max-frames" in stdout
    assert "frames of the video" not in command(*line, "--max-frames", 2)[1]
