"""Numbers and paths that cannot be, for every option of every command: one sentence, nothing hangs."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import types
from collections.abc import Iterator
from pathlib import Path

import pytest

from manyview.cli.main import COMMANDS
from tests.batch.in_process import in_this_process
from tests.datasets.posed_fixtures import write_plain
from tests.datasets.test_spatialbench import write_scene
from tests.refine.fakes import fake_solve
from tests.train.tiny import tiny_config

from .conftest import Command
from .options_of import Option, every_option

NEVER = ("nan", "inf", "-inf", "1e300", str(2**70), "~nosuch/x", "", "a\0b")
VALUES: dict[type, tuple[str, ...]] = {
    int: ("nan", str(2**70), "-1", "0"),
    float: ("nan", "inf", "-inf", "1e300", "-1", "0"),
    Path: ("~nosuch/x", "", "a\0b", "n" * 5000),
    str: ("~nosuch/x", "", "a\0b", "n" * 5000),
}
LIMIT_S = 30

# What `batch` and `serve` share with `reconstruct` is tried there, and with `serve` what `app` does.
OPTIONS = [
    option
    for option in every_option()
    if option.words not in (("batch",), ("serve",), ("app",))
    or (option.words == ("app",) and option.flag == "--port")
    or (
        option.words != ("app",)
        and option.flag in ("--jobs", "--shard", "--retries", "--host", "--port", "--max-upload-mib")
    )
]
# What an option says nothing without.
NEEDS: dict[tuple[str, str], tuple[str, ...]] = {
    **{("plan", flag): ("--ranks", "2") for flag in ("--frames", "--size", "--on", "--link")},
    ("plan", "--memory-gib"): ("--ranks", "2", "--on", "h100"),
}
COMMAND_WORDS = list(dict.fromkeys(option.words for option in OPTIONS))


class Hangs(BaseException):
    """A command took longer than it should."""


@contextlib.contextmanager
def time_limit() -> Iterator[None]:
    def stop(*_: object) -> None:
        raise Hangs

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(LIMIT_S)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


@pytest.fixture
def lines(
    command: Command, photos: Path, weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> dict[tuple[str, ...], tuple[object, ...]]:
    """For each command a line that succeeds, fast."""
    monkeypatch.chdir(tmp_path)
    write_plain(tmp_path / "data" / "kitchen")
    write_scene(tmp_path / "data" / "single" / "tum" / "room")
    (tmp_path / "config.json").write_text(json.dumps(tiny_config(steps=1).to_json()))
    model = ("--model", weights)
    small = ("--scenes", 1, "--views", 2, "--size", 28, 28, "--accel", "dense")
    assert command("reconstruct", photos, "result", *model, "--to", "none")[0] == 0
    fake_solve(monkeypatch)
    (tmp_path / "scenes").mkdir()
    shutil.copytree(photos, tmp_path / "scenes" / "one")
    monkeypatch.setattr("manyview.batch.run.run_side_by_side", in_this_process)
    monkeypatch.setattr("manyview.serve.queue.JobQueue.run", lambda *_: None)
    return {
        ("reconstruct",): (photos, "out", *model, "--to", "none", "--max-frames", 1, "--refine"),
        ("stream",): (photos, "out", *model, "--to", "none", "--max-frames", 1),
        ("batch",): ("scenes", "results", *model, "--to", "none"),
        ("serve",): ("jobs", *model, "--port", 0),
        ("app",): ("jobs", *model, "--no-open"),
        ("refine",): ("result", "--to", "none"),
        ("plan",): (photos, *model, "--max-frames", 1),
        ("export",): ("result", "--to", "ply"),
        ("view",): ("result", "--no-open", "--port", 0),
        ("demo",): ("demo",),
        ("bench",): (*model, "--frames", 1, "--size", 28, 28, "--runs", 1, "--warmup", 1, "--rounds", 1),
        ("train",): ("base", "--out", "run", "--config", "config.json"),
        ("analyze",): (photos, *model, "--queries", 4, "--views", 2, "--knockouts", "frame"),
        ("evaluate", "synthetic"): (*model, *small),
        ("evaluate", "posed"): ("data/kitchen", *model, "--views", 2, "--accel", "dense"),
        ("evaluate", "compare"): ("no.json",),
        ("evaluate", "spatialbench"): (
            *("--root", "data", *model, "--density", "single", "--scenes", "*", "--accel", "dense"),
            *("--workers", 1, "--image-size", 28),
        ),
        ("evaluate", "plain"): ("--root", "data", *model, "--views", 2, "--workers", 1),
    }


@pytest.fixture
def stopped_viewer(monkeypatch: pytest.MonkeyPatch) -> None:
    """`manyview view` ends at once, as by Ctrl-C."""

    class Interrupted:
        def wait(self) -> None:
            raise KeyboardInterrupt

    monkeypatch.setattr("manyview.cli.view.threading", types.SimpleNamespace(Event=Interrupted))


def test_every_command_has_a_line(lines: dict[tuple[str, ...], tuple[object, ...]]):
    assert set(lines) == set(COMMAND_WORDS)
    assert {words[0] for words in lines} == set(COMMANDS) - {"models", "doctor"}


@pytest.mark.parametrize("words", COMMAND_WORDS, ids=" ".join)
def test_values_that_cannot_be(
    command: Command, words: tuple[str, ...], lines: dict[tuple[str, ...], tuple[object, ...]],
    stopped_viewer: None,
):  # fmt: skip
    wrong = []
    for place, option in enumerate(one for one in OPTIONS if one.words == words):
        for value in turned(values_for(option), place):
            for left in ("out", "demo", "run", "n" * 5):
                shutil.rmtree(left, ignore_errors=True)
            try:
                with time_limit():
                    needs = NEEDS.get((words[0], option.flag), ())
                    status, _, stderr = command(*words, *lines[words], *needs, *option.with_value(value))
            except Hangs:
                wrong.append(f"{option} {value[:20]!r}: hangs")
                continue
            problem = problem_of(option, value, status, stderr)
            if problem:
                wrong.append(f"{option} {value[:20]!r}: {problem}")
    assert not wrong, "\n".join(wrong)


def turned(values: tuple[str, ...], place: int) -> tuple[str, ...]:
    """Half of the values, other ones for each option of a command; all of them where there is time."""
    if "MANYVIEW_FUZZ_MINUTES" in os.environ:
        return values
    return values[place % 2 :: 2]


def values_for(option: Option) -> tuple[str, ...]:
    if option.flag == "--seed":  # any is good
        return VALUES[int][:2]
    if option.flag == "--shard":
        return VALUES[str]
    if option.kind is str and option.flag not in ("--model", "--config", "--init"):  # names, not of files
        return ("", "n" * 5000)
    return VALUES[option.kind]


def problem_of(option: Option, value: str, status: int, stderr: str) -> str | None:
    sentences = [line for line in stderr.splitlines() if line.startswith("manyview: ")]
    if "Traceback" in stderr or "unexpected" in stderr:
        return stderr
    if status == 0:
        return "is accepted" if value in NEVER else None
    if status not in (1, 2) or len(sentences) != 1:
        return f"exit status {status}, {stderr}"
    name = option.flag.removeprefix("--")
    if option.kind in (int, float) and value in NEVER and name not in stderr.replace("_", "-"):
        return f"the option is not named: {stderr}"
    return None
