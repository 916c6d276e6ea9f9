"""The folder of a queue: a folder for each job, with input/, result/ and job.json; none is lost by a kill."""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import msgspec

from ..errors import DamagedInputError, OutputError
from ..files.lock import check_folder, sole_writer
from ..files.naming import enumerated
from ..files.schema import read_json
from ..files.transaction import flush
from ..files.writing import OWN_PREFIX, atomic_file, check_writable, entries, output_errors, partial_name
from .job import Job, encoded

JOB_NAME, INPUT_NAME, RESULT_NAME = "job.json", "input", "result"
_MARK_NAME, _MARK = f"{OWN_PREFIX}serve", "manyview serve 1\n"
_MOST_BYTES = 2**26  # of job.json

logger = logging.getLogger(__name__)


@contextlib.contextmanager
def own_folder(folder: Path) -> Iterator[None]:
    """Have a folder of jobs for this process alone; it is made if it is missing.

    Raises OutputError where it holds other things, cannot be written to, or another process has it.
    """
    check_folder(folder)
    check_writable(folder)
    names = entries(folder) if folder.is_dir() else []
    if names and not (folder / _MARK_NAME).is_file():
        raise OutputError(
            f"{folder}: the folder is not empty ({enumerated(names, 1)}) and holds no jobs of manyview "
            "serve; choose an empty one"
        )
    with sole_writer(folder):
        (folder / _MARK_NAME).write_text(_MARK, encoding="utf-8")
        yield


def read_jobs(folder: Path) -> Iterator[Job]:
    """The jobs that an earlier process left; cancelled ones are removed, damaged ones are logged."""
    for place in sorted(folder.iterdir()):
        path = place / JOB_NAME
        if place.is_symlink() or not path.is_file():
            continue
        try:
            job = read_json(path, Job, remedy=f"the job is left out; remove {place}", most=_MOST_BYTES)
        except DamagedInputError as error:
            logger.warning("%s", error)
            continue
        if job.state == "cancelled":
            drop_job(folder, place.name)
        else:
            yield msgspec.structs.replace(job, id=place.name)


def write_job(place: Path, job: Job) -> None:
    """Replace `job.json` in the folder of a job; it is on the disk when this returns."""
    with output_errors(place, 0), atomic_file(place / JOB_NAME) as part:
        part.write_bytes(encoded(job))
        flush(part)


def add_job(folder: Path, stage: Path, job: Job) -> None:
    """Make a folder in which the input of a job lies that of the job, in one step."""
    write_job(stage, job)
    with output_errors(folder, 0):
        os.rename(stage, folder / job.id)
        flush(folder)


def drop_job(folder: Path, id: str) -> None:
    """Remove the folder of a job; what a kill leaves of it is no job."""
    gone = folder / partial_name()
    with contextlib.suppress(FileNotFoundError):
        os.rename(folder / id, gone)
    shutil.rmtree(gone, ignore_errors=True)
