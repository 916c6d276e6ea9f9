"""A job: what is asked for, how far it is, what came of it; as `job.json` holds it and as clients see it."""

from __future__ import annotations

import json
from typing import Annotated, Any, Literal

import msgspec

from ..errors import ManyViewError, UsageError
from ..files.schema import Duration, Finite, Natural

State = Literal["queued", "running", "done", "failed", "cancelled"]


def encoded(value: Any) -> bytes:
    """JSON of `value`, structs too, also of text that is no UTF-8 (as "\\udcff" in a client's JSON)."""
    try:
        return msgspec.json.encode(value)
    except UnicodeEncodeError:
        return json.dumps(msgspec.to_builtins(value)).encode()


class NoSuchJobError(UsageError):
    """There is no job of that number, or no longer."""


class QueueFullError(ManyViewError):
    """As many jobs wait as may."""


class StoredFile(msgspec.Struct, frozen=True):
    """A file of the input: the name of its view, and its path below the job's `input` folder."""

    name: str
    path: str
    bytes: Natural


class Line(msgspec.Struct, frozen=True):
    """What the command would print: on standard output ("said"), or on standard error ("logged")."""

    kind: Literal["said", "logged"]
    text: str


class Quality(msgspec.Struct, frozen=True):
    """`Reconstruction.quality`."""

    grade: Literal["good", "doubtful", "bad"] | None = None
    sentence: str = ""
    figures: dict[str, int | Finite | None] = {}
    weak_views: list[str] = []


class Outcome(msgspec.Struct, frozen=True):
    """What came of a job.

    `compared`: "new", a result in its folder; for a job that names the settings of an earlier result, "more"
    if the result is that one refined, "same" or "other" (and then nothing was computed).
    """

    compared: Literal["new", "more", "same", "other"] = "new"
    views: Natural = 0
    peak_bytes: Natural = 0
    settings_hash: str = ""
    quality: Quality | None = None


class Submission(msgspec.Struct, frozen=True, kw_only=True):
    """What a job is to do.

    `name` is that of the input in messages, `notes` are sentences for the result. `earlier`: settings of a
    result that the client has and that need not be made again.
    """

    name: Annotated[str, msgspec.Meta(max_length=1000)] = "the uploaded files"
    notes: Annotated[tuple[str, ...], msgspec.Meta(max_length=100)] = ()
    earlier: dict[str, Any] | None = None


class Job(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A job as `job.json` holds it; jobs are done in the order of `number`. Times are seconds since 1970.

    `starts`: how often it was begun; `deaths`: how often its process died.
    """

    id: str
    number: Natural
    state: State
    asked: Submission
    options: dict[str, Any]
    files: tuple[StoredFile, ...]
    submitted: Duration
    begun: Duration = 0.0
    ended: Duration = 0.0
    seconds: Duration = 0.0
    starts: Natural = 0
    deaths: Natural = 0
    expected: str = ""
    stage: str = ""
    done: Natural = 0
    total: Natural = 0
    lines: tuple[Line, ...] = ()
    sentence: str = ""
    exit_code: Natural = 0
    outcome: Outcome | None = None


class JobView(msgspec.Struct, frozen=True, kw_only=True):
    """A job as those see it who ask.

    `position` in the queue, from 1, of a job that waits. `stage` of a job that runs, and the `share` of the
    stage that is done; `expected` says its memory and time, once the images have been read. `sentence` says
    why a job failed, with the `exit_code` that the command would have. Times are seconds since 1970.
    """

    id: str
    state: State
    name: str
    position: int | None
    stage: str
    done: int
    total: int
    share: float
    expected: str
    sentence: str
    exit_code: int
    compared: Literal["new", "more", "same", "other"] | None
    views: int
    seconds: float
    peak_bytes: int
    quality: Quality | None
    files: tuple[str, ...]
    options: dict[str, Any]
    lines: tuple[Line, ...]
    submitted: float
    begun: float
    ended: float

    @classmethod
    def of(cls, job: Job, position: int | None) -> JobView:
        same = ("id", "state", "stage", "done", "total", "expected", "sentence", "exit_code", "seconds")
        more = ("options", "lines", "submitted", "begun", "ended")
        outcome = job.outcome or Outcome()
        return cls(
            **{name: getattr(job, name) for name in (*same, *more)},
            name=job.asked.name,
            position=position,
            share=job.done / job.total if job.total else 0.0,
            compared=None if job.outcome is None else outcome.compared,
            views=outcome.views,
            peak_bytes=outcome.peak_bytes,
            quality=outcome.quality,
            files=tuple(file.name for file in job.files),
        )
