"""A runner of a batch: it claims scenes, has them reconstructed in its processes, and keeps the journal."""

from __future__ import annotations

import contextlib
import dataclasses
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Literal

import msgspec

from ..errors import ManyViewError
from ..files.paths import path_as_text
from ..models.network import Network
from ..reconstruction.plan.preflight import format_duration
from ..reconstruction.result.arrays import hash_settings
from ..reconstruction.result.load import read_settings
from .claims import Claim, Claims, Runner
from .folder import CLAIMS_NAME, JOURNAL_NAME
from .journal import NOTHING, Entry, Journal, SceneState
from .pool import Answer, Failure, Work, run_side_by_side
from .scenes import Scene
from .shares import Share

_MISUSE = 2  # exit code of what cannot succeed by being tried again


@dataclasses.dataclass(frozen=True)
class SceneTask:
    """A scene that this runner holds, for a process of its pool."""

    scene: Scene
    folder: Path
    claim: Claim
    attempt: int


@dataclasses.dataclass(frozen=True)
class SceneDone:
    """What a process says of a scene that is in its folder, or `lost` to another runner."""

    views: int = 0
    peak_bytes: int = 0
    settings_hash: str = ""
    lost: bool = False


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What became of a scene ("elsewhere": another runner has it), and its line of the journal, if any."""

    scene: Scene
    state: Literal["done", "failed", "elsewhere"]
    entry: Entry | None = None


@dataclasses.dataclass(frozen=True)
class Progress:
    """Where all runners of a batch are, as one of them sees it."""

    done: int
    failed: int
    total: int
    per_s: float

    def __str__(self) -> str:
        left = self.total - self.done - self.failed
        rate = (
            f"{self.per_s:.1f}/s" if self.per_s >= 1 else f"{1 / self.per_s:.1f} s each" if self.per_s else ""
        )
        ahead = f"about {format_duration(left / self.per_s)} left" if self.per_s and left else ""
        parts = (
            f"{self.done}/{self.total} scenes",
            f"{self.failed} failed" if self.failed else "",
            rate,
            ahead,
        )
        return ", ".join(filter(None, parts))


def run_batch(
    scenes: Sequence[Scene],
    out: Path,
    hidden: Path,
    model: Network,
    work: Work,
    having: Sequence[Share],
    retries: int = 1,
    told: Callable[[Entry, Progress], None] | None = None,
    everything: Sequence[Scene] | None = None,
) -> list[Outcome]:
    """Reconstruct scenes that no other runner has done or is doing.

    Args:
        scenes: Those that this runner may take, in the order in which it does.
        out: Where a folder for each is made.
        hidden: What `open_batch` returned for it.
        model: The network, which every process of `having` loads once.
        work: Makes a `SceneDone` of a `SceneTask`.
        having: The share of each process (see `pool.shares`).
        retries: How often a scene that failed is tried again, after all others; not after misuse, such as
            images that cannot be used.
        told: Called with each line of the journal that ends a scene, and where all runners are.
        everything: The scenes that progress counts; None: `scenes`.

    Returns:
        What became of each of `scenes`. A scene is "elsewhere" while another runner has it and works; what
        belongs to a runner that has died is waited for and taken over.
    """
    runner = Runner.this()
    claims = Claims(hidden / CLAIMS_NAME, runner)
    journal = Journal(hidden / JOURNAL_NAME, f"{runner.host}-{runner.pid}-{runner.nonce}")
    schedule = Schedule(scenes, out, claims, journal, retries)
    counted = {scene.name for scene in (scenes if everything is None else everything)}
    before, start = _ended(journal, counted), time.monotonic()

    def progress() -> Progress:
        done, failed = _ended(journal, counted)
        seconds = max(time.monotonic() - start, 1e-9)
        return Progress(done, failed, len(counted), max(0, done + failed - sum(before)) / seconds)

    with claims.beating():
        answers = run_side_by_side(model, schedule.tasks(), work, having, keep_going=True)
        with contextlib.closing(answers):
            for answer in answers:
                entry = schedule.ended(answer)
                if entry is not None and told is not None:
                    told(entry, progress())
    return schedule.outcomes()


class Schedule:
    """Which scene is next: those that have not failed first, none that is done or another runner's."""

    def __init__(
        self, scenes: Sequence[Scene], out: Path, claims: Claims, journal: Journal, retries: int
    ) -> None:
        self._scenes, self._out, self._claims, self._journal = scenes, out, claims, journal
        self._retries = retries
        # Scenes that failed before this runner began are tried again.
        self._earlier = {name: state.failures for name, state in journal.read().items()}
        self._running: set[str] = set()
        self._settled: dict[str, Outcome] = {}

    def tasks(self) -> Iterator[SceneTask | None]:
        """Tasks as they can be had; None while there is none but may be one later."""
        while True:
            any_left = False
            for failures in range(self._retries + 1):
                for scene in self._left():
                    if self._failures(scene.name) == failures:
                        task = self._taken(scene)
                        if task is not None:
                            any_left = True
                            yield task
            if any_left:
                continue
            left = self._left()
            if not left and not self._running:
                return
            if not self._running and all([self._is_elsewhere(scene) for scene in left]):
                return
            yield None

    def ended(self, answer: Answer[SceneTask]) -> Entry | None:
        """Keep what came of a task; the line of the journal, None if another runner has taken it over."""
        task, found = answer.task, answer.result
        entry = _entry(task.scene, task.attempt, "failed", answer.seconds)
        if isinstance(found, Failure):
            entry = msgspec.structs.replace(entry, sentence=found.sentence, exit_code=found.exit_code)
        else:
            entry = msgspec.structs.replace(
                entry,
                state="done",
                views=found.views,
                peak_bytes=found.peak_bytes,
                settings_hash=found.settings_hash,
            )
        lost = isinstance(found, SceneDone) and found.lost
        if not lost:
            self._journal.write(entry)
        self._running.discard(task.scene.name)
        self._claims.give_back(task.scene.name)
        return None if lost else entry

    def outcomes(self) -> list[Outcome]:
        """What became of each scene."""
        self._left()
        return [self._settled.get(scene.name, Outcome(scene, "elsewhere")) for scene in self._scenes]

    def _left(self) -> list[Scene]:
        """Scenes of which something may still have to be done by this runner, but not those it is at."""
        states = self._journal.read()
        for scene in self._scenes:
            if scene.name not in self._settled and scene.name not in self._running:
                outcome = self._outcome(scene, states.get(scene.name, NOTHING))
                if outcome is not None:
                    self._settled[scene.name] = outcome
        return [
            scene
            for scene in self._scenes
            if scene.name not in self._settled and scene.name not in self._running
        ]

    def _outcome(self, scene: Scene, state: SceneState) -> Outcome | None:
        if state.done is not None and _holds(self._out / scene.name, scene, state.done):
            return Outcome(scene, "done", state.done)
        failures = self._failures(scene.name)
        if state.failed is None or failures == 0:
            return None
        over = failures > self._retries or state.failed.exit_code == _MISUSE
        return Outcome(scene, "failed", state.failed) if over else None

    def _taken(self, scene: Scene) -> SceneTask | None:
        """The scene as this runner's, unless another holds it or has ended it."""
        claim = self._claims.take(scene.name)
        if claim is None:
            return None
        failures = self._failures(scene.name)
        state = self._journal.read().get(scene.name, NOTHING)
        if self._failures(scene.name) != failures or self._outcome(scene, state) is not None:
            self._claims.give_back(scene.name)
            return None
        self._running.add(scene.name)
        self._journal.write(_entry(scene, failures + 1, "begun"))
        return SceneTask(scene, self._out / scene.name, claim, failures + 1)

    def _failures(self, name: str) -> int:
        """How often a scene has failed since this runner began."""
        return self._journal.scenes.get(name, NOTHING).failures - self._earlier.get(name, 0)

    def _is_elsewhere(self, scene: Scene) -> bool:
        return bool(self._claims.is_alive(scene.name))


def _entry(
    scene: Scene, attempt: int, state: Literal["begun", "done", "failed"], seconds: float = 0.0
) -> Entry:
    given = path_as_text(scene.input)
    return Entry(scene.name, state, time.time(), given, seconds=seconds, attempt=attempt)


def _holds(folder: Path, scene: Scene, entry: Entry) -> bool:
    """Whether the result is there that a line of the journal is about."""
    if entry.input != path_as_text(scene.input):
        return False
    try:
        return hash_settings(read_settings(folder)) == entry.settings_hash
    except ManyViewError:
        return False


def _ended(journal: Journal, names: set[str]) -> tuple[int, int]:
    """(done, failed and not done) of these scenes, by the journal."""
    states = [state for name, state in journal.read().items() if name in names]
    done = sum(state.done is not None for state in states)
    return done, sum(state.failed is not None for state in states if state.done is None)
