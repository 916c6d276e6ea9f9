"""What became of the scenes of a batch: a file of lines for each runner, read together.

A runner appends to its own file alone. A line that a kill cut off is not counted. The journal says what to
show and what to try; whether a scene is done is decided by its result folder.
"""

from __future__ import annotations

import dataclasses
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

import msgspec

from ..errors import OutputError
from ..files.schema import Duration, Natural, parse_json

_MOST_BYTES = 2**28
_NOT_IN_NAMES = re.compile(r"[^A-Za-z0-9.-]+")


class Entry(msgspec.Struct, frozen=True, omit_defaults=True):
    """One line: a scene was begun, done or failed.

    `input` as `path_as_text` writes it; `settings_hash` of the result; `time` in seconds since 1970, by the
    clock of the machine.
    """

    scene: str
    state: Literal["begun", "done", "failed"]
    time: Duration
    input: str = ""
    sentence: str = ""
    exit_code: Natural = 0
    seconds: Duration = 0.0
    peak_bytes: Natural = 0
    views: Natural = 0
    attempt: Natural = 0
    settings_hash: str = ""


@dataclasses.dataclass(frozen=True)
class SceneState:
    """What all runners say of a scene: how it was done, how it last failed, and how often."""

    done: Entry | None = None
    failed: Entry | None = None
    failures: int = 0

    def after(self, entry: Entry) -> SceneState:
        """With one line more."""
        if entry.state == "done":
            return dataclasses.replace(self, done=entry)
        if entry.state == "failed":
            return dataclasses.replace(self, failed=entry, failures=self.failures + 1)
        return self


NOTHING = SceneState()


class Journal:
    """The journal of a batch: `write` appends lines of this runner, `read` takes up those of all."""

    def __init__(self, folder: Path, runner_name: str) -> None:
        """`runner_name` differs between runners; the folder exists."""
        self._folder = folder
        self._own = folder / f"{_NOT_IN_NAMES.sub('_', runner_name)}.jsonl"
        self._read_bytes: dict[str, int] = {}
        self.scenes: dict[str, SceneState] = {}
        """By name, as of the last `read`."""

    def write(self, entry: Entry) -> None:
        """Append a line, on the disk when this returns. Raises OutputError where that fails."""
        line = msgspec.json.encode(entry) + b"\n"
        try:
            with open(self._own, "ab") as file:
                file.write(line)
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise OutputError(
                f"{self._own}: cannot be written ({error.strerror}); free some space there and go on with "
                "the same command"
            ) from error

    def read(self) -> Mapping[str, SceneState]:
        """Every scene that a line is about, by its name."""
        for name in sorted(os.listdir(self._folder)):
            if name.endswith(".jsonl"):
                for line in self._new_lines(name):
                    try:
                        entry = parse_json(line, Entry)
                    except ValueError:  # what a full disk or a dying machine left
                        continue
                    self.scenes[entry.scene] = self.scenes.get(entry.scene, NOTHING).after(entry)
        return self.scenes

    def _new_lines(self, name: str) -> list[bytes]:
        begin = self._read_bytes.get(name, 0)
        try:
            with open(self._folder / name, "rb") as file:
                file.seek(begin)
                text = file.read(_MOST_BYTES)
        except OSError:  # it was removed, or is no file
            return []
        whole, newline, _ = text.rpartition(b"\n")
        self._read_bytes[name] = begin + len(whole) + len(newline)
        return whole.split(b"\n") if newline else []
