"""`manyview reconstruct --server URL`: a server computes, all else is as without one."""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import os
from functools import partial
from typing import TYPE_CHECKING, Any

from ..errors import ServerError, UsageError
from ..files.lock import sole_writer
from ..files.naming import counted, printable
from ..files.transaction import staging
from ..files.writing import require_space
from ..reconstruction.result.load import load_if_whole, load_reconstruction
from ..reconstruction.result.result import Reconstruction
from ..reconstruction.result.save import ARRAYS_NAME, HEADER_NAME, check_output_folder
from ..serve.client import AwayError, ServerClient, check_limits
from ..serve.job import JobView, Line, Submission
from .console import Bars, say
from .export import export_all
from .job_options import SERVERS_OWN, JobChoice
from .options import flat_options

if TYPE_CHECKING:
    from .reconstruct import Reconstruct, Request

# Options that are done with here: the server gets the files that they choose, and its result without exports.
_OF_THIS_SIDE = frozenset({"paths", "overwrite", "server", "token", "to"})

logger = logging.getLogger("manyview")


def reconstruct_there(command: Reconstruct) -> None:
    """Send what is found, follow the job, and write its result as the command does that computes itself."""
    if command.server is None:
        raise UsageError("--token is that of a server: give --server too")
    request = command.request(here=False)
    options = _options(command, request)
    token = command.token or os.environ.get("MANYVIEW_TOKEN") or None
    with ServerClient(command.server, token) as client, sole_writer(request.folder), Bars() as bars:
        earlier = command.earlier_settings(request)
        if earlier is not None and command.overwrite:
            earlier = None
        elif earlier is not None and load_if_whole(request.folder) is None:
            check_output_folder(request.folder)
        info = client.info()
        for text in filter(None, (*info.notes, info.licence)):
            logger.info("%s", text)
        files = request.given.files
        check_limits(files, info.limits)
        label = printable(request.given.label)[:1000]
        asked = Submission(name=label, notes=request.given.warnings, earlier=earlier)
        id = client.submit(files, options, asked, partial(bars, "upload")).id
        try:
            _check_names(client.job(id), request)
            scene = _followed(command, client, request, id, bars)
        except AwayError:  # which may still do it
            raise
        except BaseException:
            with contextlib.suppress(ServerError):
                client.remove(id)
            raise
        with contextlib.suppress(ServerError):  # nothing of ours stays there
            client.remove(id)
    if scene is not None:
        command.say_end(scene, info.device.split(":")[0])


def _options(command: Reconstruct, request: Request) -> dict[str, Any]:
    """What is not the default, as a job takes it. UsageError for what only this machine can follow."""
    plain, taken = flat_options(type(command)(paths=())), flat_options(JobChoice())
    given = {name: value for name, value in flat_options(command).items() if value != plain[name]}
    for name in given:
        if name in SERVERS_OWN or name not in taken.keys() | _OF_THIS_SIDE:
            raise UsageError(
                f"--{name.replace('_', '-')} cannot be used with --server: leave it out, or compute here"
            )
    here = _OF_THIS_SIDE | flat_options(command.exports).keys()
    if request.given.kind == "photos":  # of which only those that are chosen are sent
        here |= flat_options(command.how.inputs).keys()
    return {name: value for name, value in given.items() if name not in here} | {"to": ["none"]}


def _check_names(job: JobView, request: Request) -> None:
    for file, name in zip(request.given.files, job.files, strict=True):
        if file.name != name:
            raise UsageError(f"{printable(file.name)}: the server cannot keep this name; rename the file")


def _followed(
    command: Reconstruct, client: ServerClient, request: Request, id: str, bars: Bars
) -> Reconstruction | None:
    """The result of a job, written; None if it was there already."""
    shown: set[Line] = set()
    waits = False
    for job in client.followed(id):
        for line in job.lines:
            if line not in shown:  # a job that is begun again says the same again
                shown.add(line)
                say(line.text) if line.kind == "said" else logger.info("%s", line.text)
        before = (job.position or 1) - 1
        if before and not waits:
            waits = True
            logger.info("%s before this one on the server", counted(before, "job"))
        if job.state == "running" and job.total:
            bars(job.stage, job.done, job.total)
    if job.state == "failed":
        raise ServerError(job.sentence, job.exit_code)
    if job.compared == "other":
        check_output_folder(request.folder)
    if job.compared in ("same", "other"):
        scene = load_if_whole(request.folder)
        assert scene is not None
        command.completed(scene, request, bars)
        return None
    scene = _fetched(client, id, request, command.overwrite or job.compared == "more", bars)
    export_all(scene, request.folder, request.formats, bars)
    return scene


def _fetched(client: ServerClient, id: str, request: Request, overwrite: bool, bars: Bars) -> Reconstruction:
    """The server's result, saved as one of the files here."""
    folder = request.folder
    sizes = client.files(id)
    require_space(folder, 2 * sum(sizes.values()))
    with staging(folder) as stage:
        for name in (HEADER_NAME, ARRAYS_NAME):
            client.fetch(id, name, stage / name, partial(bars, "download"))
        scene = load_reconstruction(stage)
        sources = {file.name: file.source for file in request.given.files}
        if request.given.kind == "video":
            sources = dict.fromkeys(scene.names, request.given.files[0].source)
        if not sources.keys() >= set(scene.names):
            raise ServerError("the result of the server shows other images than those that were sent")
        views = tuple(dataclasses.replace(view, source=sources[view.name]) for view in scene.views)
        scene = dataclasses.replace(scene, views=views)
        scene.save(folder, overwrite)
    return scene
