"""What the page does with jobs, without the page: from files that were uploaded to a job and its state."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from ..errors import UsageError
from ..files.naming import natural_key
from ..files.schema import check_regular, parse_json
from ..reconstruction.inputs.options import InputFile
from ..serve.app import Service
from ..serve.job import JobView, Submission
from ..serve.limits import TooLargeError
from ..serve.upload import check_count, check_file, check_together, placed, view_name

NOT_SAID = "default"
"""What the control of the method says for what the weights were trained for."""


@dataclasses.dataclass(frozen=True)
class Controls:
    """The controls of the page; 0 stands for the default, `further` is a JSON object of other options."""

    accel: str = NOT_SAID
    max_frames: float = 0
    refine: str = "none"
    image_size: float = 0
    further: str = ""

    def options(self) -> bytes:
        """The options of a job, as JSON. Raises UsageError for no JSON object, or no whole number."""
        try:
            further = parse_json(self.further.strip().encode() or b"{}", dict[str, Any])
        except ValueError as error:
            raise UsageError(f"the further options are not a JSON object ({error})") from error
        given: dict[str, Any] = {"to": ["none"]}  # exports are made when they are downloaded
        if self.accel.strip() not in ("", NOT_SAID):
            given["accel"] = self.accel.strip()
        if self.refine != "none":
            given["refine"] = self.refine
        for name in ("max_frames", "image_size"):
            value = getattr(self, name)
            if value:
                if value != int(value):
                    raise UsageError(f"{name} is a whole number, not {value}")
                given[name] = int(value)
        return json.dumps(given | further).encode()


@dataclasses.dataclass(frozen=True)
class PageJobs:
    """The jobs of a page.

    `plan` says of files and options what would run; it raises ManyViewError. `cache` is the folder of uploads
    and of what is shown. `methods` are those to choose from.
    """

    service: Service
    plan: Callable[[Sequence[InputFile], dict[str, Any]], str]
    cache: Path
    methods: tuple[str, ...]

    def sentence(self, uploads: Sequence[str], controls: Controls) -> str:
        """What a run of these files would be, before it is one."""
        named, video = self._checked(uploads)
        options = self.service.checked(controls.options(), video)
        return self.plan([InputFile(path, name) for name, path in named], options)

    def submit(self, uploads: Sequence[str], controls: Controls) -> str:
        """Put a job of these files into the queue; returns its id.

        Raises UsageError for files or options that no job may have, QueueFullError, OutputError.
        """
        queue = self.service.queue
        named, video = self._checked(uploads)
        options = self.service.checked(controls.options(), video)
        with queue.staging() as stage:
            files = placed(named, video, stage, move=_linked)
            return queue.submit(stage, Submission(), options, files).id

    def view(self, id: str) -> JobView:
        """A job as it is now. Raises NoSuchJobError."""
        return self.service.queue.view(id.strip())

    def cancel(self, id: str) -> None:
        """End a job that waits or runs. Raises NoSuchJobError, UsageError for one that has ended."""
        if self.view(id).state not in ("queued", "running"):
            raise UsageError(f"job {id} has ended; DELETE /jobs/{id} removes it with its result")
        self.service.queue.remove(id)

    def _checked(self, uploads: Sequence[str]) -> tuple[list[tuple[str, Path]], bool]:
        """Files by the names of their views, and whether they are a video."""
        limits = self.service.limits
        check_count(len(uploads), limits)
        paths = sorted(map(Path, uploads), key=lambda path: natural_key(path.name))
        names: list[str] = []
        total, videos = 0, 0
        for path in paths:
            if not path.resolve().is_relative_to(self.cache):
                raise UsageError(f"{path.name} was not uploaded to this page; choose it again")
            names.append(view_name(path.name, names))
            total += check_regular(path)
            videos += check_file(path, names[-1], limits)
        if total > limits.upload_bytes:
            raise TooLargeError(f"a job may bring {limits.max_upload_mib} MiB; send fewer or smaller images")
        check_together(len(paths), videos > 0)
        return list(zip(names, paths, strict=True)), videos > 0


def _linked(source: Path, target: Path) -> None:
    """The same file under another name, or a copy where the system has no links."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)
