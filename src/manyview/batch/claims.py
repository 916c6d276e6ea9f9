"""Scenes claimed by runners, on one or more machines that share a folder; each has one holder at a time.

A claim is a file that is created exclusively, which every shared file system does as one step. Its holder
touches it every `BEAT_S`; one that was not touched for `STALE_S` by the clock of the file server belongs to a
holder that is gone. It is taken over by creating the next file in turn, NAME.2.claim after NAME.1.claim: of
several runners one succeeds, and a holder that was only asleep sees that its claim is no longer the last.
File locks alone would not do: on some network file systems they hold within one machine only.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import re
import socket
import threading
import uuid
from collections.abc import Iterator
from pathlib import Path

import msgspec

from ..files.schema import parse_json

BEAT_S = 10.0
"""A holder touches its claims this often."""
STALE_S = 120.0
"""A claim untouched for so long is stale; more than file servers keep times of change to themselves."""

_CLAIM = re.compile(r"(.+)\.([1-9][0-9]{0,8})\.claim")
_MOST_BYTES = 10_000


class ClaimLost(BaseException):
    """Another runner has taken a scene over, as this one was not heard of for too long.

    Like KeyboardInterrupt it is no error of what it ends: files that another run can go on with are kept.
    """


class Runner(msgspec.Struct, frozen=True):
    """Who holds a claim; `machine` is empty where processes cannot be seen, `started` is in ticks."""

    host: str
    machine: str
    pid: int
    started: int
    nonce: str

    @classmethod
    def this(cls) -> Runner:
        """A new runner in this process."""
        pid = os.getpid()
        started = _started(pid)
        host = socket.gethostname()[:100]
        return cls(host, "" if started is None else _machine(), pid, started or 0, uuid.uuid4().hex)

    @property
    def dead(self) -> bool:
        """Whether it certainly runs no more: it ran on this machine, and its process is another or gone."""
        return bool(self.machine) and self.machine == _machine() and _started(self.pid) != self.started


@dataclasses.dataclass(frozen=True)
class Claim:
    """A scene that a runner holds; processes that it started may be handed a copy."""

    path: Path
    nonce: str

    def check(self) -> None:
        """Raise ClaimLost if another runner has taken over; call it before results are put in place."""
        last = _last(self.path.parent, _CLAIM.fullmatch(self.path.name)[1])  # type: ignore[index]
        found = _read(self.path)
        if last != self.path or found is None or found[0] is None or found[0].nonce != self.nonce:
            raise ClaimLost(self.path.name)


class Claims:
    """The claims of a folder, as one runner sees and makes them; `beat` in a thread keeps them."""

    def __init__(self, folder: Path, runner: Runner, stale_s: float = STALE_S) -> None:
        self._folder, self._runner, self._stale_s = folder, runner, stale_s
        self._held: dict[str, Claim] = {}
        self._lock = threading.Lock()
        self._seen: dict[str, tuple[str, float]] = {}

    def take(self, name: str) -> Claim | None:
        """Claim a scene; None if another runner holds it."""
        last = _last(self._folder, name)
        if last is not None and not self._is_stale(last):
            return None
        number = 1 if last is None else int(_CLAIM.fullmatch(last.name)[2]) + 1  # type: ignore[index]
        path = self._folder / f"{name}.{number}.claim"
        if not create_once(path, msgspec.json.encode(self._runner)):
            return None
        claim = Claim(path, self._runner.nonce)
        if _last(self._folder, name) != path:  # a claim before it was given back while we looked
            path.unlink(missing_ok=True)
            return None
        with self._lock:
            self._held[name] = claim
        return claim

    def give_back(self, name: str) -> None:
        """Let a scene go, for whoever wants it."""
        with self._lock:
            claim = self._held.pop(name, None)
        if claim is not None:
            with contextlib.suppress(ClaimLost):
                claim.check()
                for number in _numbers(self._folder, name):  # those that it took over first
                    (self._folder / f"{name}.{number}.claim").unlink(missing_ok=True)

    def is_alive(self, name: str) -> bool | None:
        """Whether another runner holds a scene and works: True once a touch of its claim was seen, None as
        long as that cannot be said, False if nobody holds it."""
        last = _last(self._folder, name)
        found = None if last is None else _read(last)
        if last is None or found is None or self._is_stale(last):
            return False
        holder, touched = found
        mark = "" if holder is None else holder.nonce
        before, first = self._seen.setdefault(name, (mark, touched))
        if before == mark and touched == first:
            return None
        return True

    def beat(self) -> None:
        """Touch what is held."""
        with self._lock:
            held = list(self._held.values())
        for claim in held:
            with contextlib.suppress(ClaimLost, OSError):
                claim.check()
                os.utime(claim.path)

    @contextlib.contextmanager
    def beating(self, every_s: float = BEAT_S) -> Iterator[None]:
        """`beat` in a thread; what is held at the end is given back."""
        over = threading.Event()

        def beat() -> None:
            while not over.wait(every_s):
                self.beat()

        thread = threading.Thread(target=beat, name="manyview-claims", daemon=True)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()
            for name in list(self._held):
                self.give_back(name)
            self._clock().unlink(missing_ok=True)

    def _is_stale(self, path: Path) -> bool:
        found = _read(path)
        if found is None:  # given back meanwhile
            return False
        holder, touched = found
        if holder is not None and holder.dead:
            return True
        return self._now() - touched > self._stale_s

    def _now(self) -> float:
        """The time of the file server, to which times of change belong."""
        clock = self._clock()
        with open(clock, "ab") as file:
            os.utime(clock)
            return os.fstat(file.fileno()).st_mtime

    def _clock(self) -> Path:
        return self._folder / f"{self._runner.nonce}.clock"


def create_once(path: Path, content: bytes) -> bool:
    """Create a file with this content; False if it is there already."""
    try:
        descriptor = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | getattr(os, "O_BINARY", 0), 0o666)
    except FileExistsError:
        return False
    with open(descriptor, "wb") as file:
        file.write(content)
    return True


def _numbers(folder: Path, name: str) -> list[int]:
    """The numbers of a scene's claims, in order."""
    found = filter(None, map(_CLAIM.fullmatch, os.listdir(folder)))
    return sorted(int(one[2]) for one in found if one[1] == name)


def _last(folder: Path, name: str) -> Path | None:
    """The claim of a scene that counts."""
    numbers = _numbers(folder, name)
    return folder / f"{name}.{numbers[-1]}.claim" if numbers else None


def _read(path: Path) -> tuple[Runner | None, float] | None:
    """(holder, None if it cannot be read; time of the last touch), or None if there is no such claim."""
    try:
        with open(path, "rb") as file:  # to open it brings a network file system's times up to date
            content = file.read(_MOST_BYTES)
            touched = os.fstat(file.fileno()).st_mtime
    except FileNotFoundError:
        return None
    try:
        return parse_json(content, Runner), touched
    except ValueError:  # its holder has not written it yet, or the disk is full
        return None, touched


def _machine() -> str:
    """The same for processes that see one another's numbers, and for them alone; empty if unknown."""
    with contextlib.suppress(OSError):
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot} {os.readlink('/proc/self/ns/pid')}"
    return ""


def _started(pid: int) -> int | None:
    """When a process began, in ticks of the machine; None if it is not there or that is not known."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (OSError, UnicodeDecodeError):
        return None
    return None if fields[0] in ("Z", "X") else int(fields[19])
