"""`manyview serve FOLDER`: a resident model and a queue of jobs, over HTTP."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import secrets
from pathlib import Path
from typing import TYPE_CHECKING, Any

import tyro

from .._option_checks import check_options
from ..files.naming import counted
from ..serve.limits import Limits
from ..view.access import LOOPBACK, Access
from .console import say, stopped_by_sigterm
from .job_options import JOB_OPTIONS, check_model, job_command
from .options import ModelChoice
from .reconstruct import Reconstruct

if TYPE_CHECKING:
    from starlette.types import ASGIApp

    from ..batch.shares import Share
    from ..models.network import Network
    from ..serve.app import Service
    from ..serve.job import Job
    from ..serve.queue import JobQueue

TOKEN_NAME = "MANYVIEW_TOKEN"


@dataclasses.dataclass(frozen=True)
class Serve:
    """Keep a model in memory and reconstruct what is sent over HTTP, until Ctrl-C.

    Programs submit images and get results (/docs describes how), and so does `manyview reconstruct --server`.
    Jobs wait in FOLDER: whatever is killed, none is lost.
    """

    folder: tyro.conf.Positional[Path]
    """Where jobs are kept, with their images and results: a new folder, or that of an earlier server."""
    model: ModelChoice = dataclasses.field(default_factory=ModelChoice)
    device: str = "auto"
    """auto, cpu, cuda, cuda:1 or mps."""
    memory_limit_gib: float | None = None
    """Plan for at most this much memory."""
    host: str = "127.0.0.1"
    """Address to listen on; any other than this machine's own loopback needs a token."""
    port: int = 7870
    """Port to listen on; 0: any free one."""
    token: str | None = None
    """Only who sends it is answered; default: MANYVIEW_TOKEN, or one that is made where --host needs it."""
    jobs: int | None = None
    """Jobs at a time, each with its share of cores and memory; default: one per card, or one."""
    retries: int = 1
    """How often a job is begun again whose process died."""
    limits: Limits = dataclasses.field(default_factory=Limits)

    def run(self) -> int:
        from ..errors import UsageError, optional_module
        from ..reconstruction.run.options import ReconstructOptions

        check_options(self, at_least={"jobs": 1, "retries": 0, "port": 0}, above={"memory_limit_gib": 0})
        if self.port > 65535:
            raise UsageError(f"port must be between 0 (any free one) and 65535, not {self.port}")
        for name in ("fastapi", "uvicorn", "python_multipart"):
            optional_module(name, "the server", "serve")
        self._require()
        from ..batch.shares import devices, shares
        from ..serve.queue import open_queue
        from ..serve.running import listening, serving
        from .serve_job import ReconstructJob

        token = self._token()
        access = Access(self.host) if token is None else Access(self.host, token)
        options = ReconstructOptions(device=self.device, memory_limit_gib=self.memory_limit_gib)
        with (
            open_queue(self.folder, self.retries, self.limits.max_waiting, _say_ended) as queue,
            listening(self.host, self.port) as socket,
        ):
            model = self.model.load()
            having = shares(model, options, self.jobs or len(devices(self.device)))
            service = self._service(queue, model, having[0].device)
            with (
                stopped_by_sigterm(),
                contextlib.suppress(KeyboardInterrupt),
                self._application(service, access, token, model, having[0]) as application,
                serving(application, access, socket) as url,
            ):
                say(f"{url} serves {model.name} on {having[0].device}; jobs are kept in {self.folder}")
                if token is not None and not self._given_token():
                    say(f"Token, for the header Authorization: Bearer, or {TOKEN_NAME}: {token}")
                self._say_address(url, token)
                say("Stop with Ctrl-C; what is not done then is done after the next start.")
                queue.run(model, ReconstructJob(self.model), having)
            say("Server stopped.")
        return 0

    def _require(self) -> None:
        """MissingExtraError without what more than the server is needed."""

    def _application(
        self, service: Service, access: Access, token: str | None, model: Network, share: Share
    ) -> contextlib.AbstractContextManager[ASGIApp]:
        """What answers requests."""
        from ..serve.app import make_app

        return contextlib.nullcontext(make_app(service, access, token))

    def _say_address(self, url: str, token: str | None) -> None:
        """What else a person has to know."""

    def _token(self) -> str | None:
        """What requests have to bring, if anything."""
        from ..errors import UsageError

        given = self._given_token()
        if given is not None and not (given.isascii() and given.isprintable() and " " not in given):
            raise UsageError("a token is made of letters, digits and signs, without spaces")
        if given is None and self.host not in LOOPBACK:
            return secrets.token_urlsafe(24)
        return given

    def _given_token(self) -> str | None:
        return self.token or os.environ.get(TOKEN_NAME) or None

    def _service(self, queue: JobQueue, model: Network, device: str) -> Service:
        from ..attention.plan import Plan
        from ..serve.app import Service

        names = tuple(dict.fromkeys((model.name, self.model.model)))

        def check(options: dict[str, Any]) -> None:
            check_model(options.get("model"), names)
            command = job_command(options, Reconstruct, paths=())
            if command.how.accel not in (None, "auto"):
                Plan.parse(command.how.accel, model.config.depth)

        info = model.info
        about = {
            "model": model.name,
            "notes": [] if info is None else list(info.notes),
            "licence": "" if info is None else info.sentence(),
            "device": device,
        }
        return Service(queue, JOB_OPTIONS, check, about, self.limits)


def _say_ended(job: Job) -> None:
    if job.state == "failed":
        say(f"{job.id} failed: {job.sentence}")
    else:
        views = 0 if job.outcome is None else job.outcome.views
        say(f"{job.id} done, {counted(views, 'view')} in {job.seconds:.1f} s")
