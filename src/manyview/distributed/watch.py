"""Each rank watches the others, so that all of them end when one does, with the first cause."""

from __future__ import annotations

import dataclasses
import json
import math
import os
import threading
import time
from pathlib import Path

from ..errors import RankError
from .environment import RankEnvironment

_BEAT_S = 0.5
_START_S = 300.0  # for a rank to give its first sign of life
_SILENT_S = 30.0  # without another one it counts as gone,
_SUSPECT_SILENT_S = 3.0  # and after that where a connection has broken too
_CAUSE_S = 10.0  # for which a rank whose connection broke waits for another cause than that
_CLEAN_UP_S = 2.0  # for a rank to clean up before it ends because of another one


class OtherRankError(RankError):
    """Another rank failed, and says so itself; the message is what it says."""


@dataclasses.dataclass(frozen=True)
class Failure:
    """Why a run ends: a sentence that names the rank, and the exit status."""

    rank: int
    sentence: str
    exit_code: int = 1
    time_ns: int = 0

    def to_json(self) -> str:
        return json.dumps(dataclasses.asdict(self))

    @classmethod
    def of_json(cls, text: str | bytes) -> Failure:
        return cls(**json.loads(text))


class Watcher:
    """Tells the other ranks that this one lives or why it failed, and ends it when another one failed.

    A thread looks twice a second, over a connection of its own to the store: one that waits in an operation
    holds its connection. If the launcher is gone, or a rank has failed and this one is still there two
    seconds later (mostly waiting inside a collective operation), the process ends at once.
    """

    def __init__(self, place: RankEnvironment, name: str) -> None:
        self.place, self.name = place, name
        self._store = place.connect()
        self._parent = os.getppid()
        self._ended, self._suspicious, self._failed = threading.Event(), threading.Event(), threading.Event()
        self.failure: Failure | None = None
        self.found_here = False  # the failure is one that this rank noticed and has to tell of
        self._store.set(f"name/{place.rank}", name)
        threading.Thread(target=self._watch, name="manyview-watch", daemon=True).start()

    def fail(self, sentence: str, exit_code: int) -> Failure:
        """Tell all ranks why the run ends; returns the reason that came first, which may be another's."""
        own = self._failure(sentence, exit_code)
        self._report(own)  # before others learn of it: the launcher ends all when the first one ends
        try:
            first = self._store.compare_set("failed", "", own.to_json())
        except RuntimeError:
            first = own.to_json().encode()
        self.stop()
        self.failure = Failure.of_json(first)
        return self.failure

    def other_cause(self) -> Failure | None:
        """Why this rank's connection broke, if another rank says so within ten seconds."""
        self._suspicious.set()
        self._failed.wait(_CAUSE_S)
        return self.failure

    def check(self) -> None:
        """Raise OtherRankError if another rank has failed."""
        if self.failure is not None:
            raise OtherRankError(self.failure.sentence, self.failure.exit_code)

    def meet(self, key: str, ranks: int, most_s: float = math.inf) -> None:
        """Return when so many ranks have called this with the key; for waits that may be long."""
        pause, until = 0.005, time.monotonic() + most_s
        here = self._store.add(f"meet/{key}", 1)
        while here < ranks and time.monotonic() < until:
            self.check()
            time.sleep(pause)
            pause = min(2 * pause, 0.25)
            here = self._store.add(f"meet/{key}", 0)

    def stop(self, done: bool = False) -> None:
        """Watch no more, and be watched no more; `done`: the run is over."""
        self._ended.set()
        if done:
            self._store.set(f"alive/{self.place.rank}", "done")

    def _watch(self) -> None:
        beats, heard, since = 0, b"", time.monotonic()
        following = (self.place.rank + 1) % self.place.world_size
        while not self._ended.wait(_BEAT_S):
            if os.getppid() != self._parent:
                os._exit(1)
            try:
                beats += 1
                self._store.set(f"alive/{self.place.rank}", str(beats))
                failure = self._get("failed")
                if failure:
                    return self._end_because_of(Failure.of_json(failure))
                beat, now = self._get(f"alive/{following}"), time.monotonic()
                if beat != heard or beat == b"done":
                    heard, since = beat, now
                suspicious = self._suspicious.is_set()
                if now - since > (_SUSPECT_SILENT_S if suspicious else _SILENT_S if heard else _START_S):
                    return self._end_because_of(*self._silent(following))
            except RuntimeError:
                if self._ended.is_set():
                    return None
                sentence = f"{self.name} lost its connection to the launcher, or to rank 0"
                return self._end_because_of(self._failure(sentence), True)
        return None

    def _get(self, key: str) -> bytes:
        """A value of the store, b"" if there is none; does not wait."""
        return self._store.get(key) if self._store.check([key]) else b""

    def _failure(self, sentence: str, exit_code: int = 1) -> Failure:
        return Failure(self.place.rank, sentence, exit_code, time.time_ns())

    def _silent(self, rank: int) -> tuple[Failure, bool]:
        """The reason for the end where a rank shows no sign of life, and whether this rank tells of it."""
        name = self._get(f"name/{rank}").decode() or f"rank {rank} of {self.place.world_size}"
        own = self._failure(f"{name} does not answer any more; if it was killed, mostly memory ran out there")
        first = Failure.of_json(self._store.compare_set("failed", "", own.to_json()))
        return first, first == own

    def _end_because_of(self, failure: Failure, found_here: bool = False) -> None:
        """Leave it to the main thread to end; end the process if it does not."""
        if found_here:
            self._report(failure)
        self.failure, self.found_here = failure, found_here
        self._failed.set()
        if not self._ended.wait(_CLEAN_UP_S):
            if found_here and self.place.reports is None:
                os.write(2, f"manyview: {failure.sentence}\n".encode())
            os._exit(1)

    def _report(self, failure: Failure) -> None:
        """Leave the reason for the launcher, if it is ours."""
        if self.place.reports is not None:
            path = self.place.reports / f"rank-{self.place.rank}.json"
            part = path.with_suffix(".part")
            part.write_text(failure.to_json(), encoding="utf-8")
            os.replace(part, path)


def first_report(reports: Path) -> Failure | None:
    """The earliest reason that a rank left for its launcher."""
    found = [Failure.of_json(path.read_bytes()) for path in reports.glob("rank-*.json")]
    return min(found, key=lambda failure: failure.time_ns, default=None)
