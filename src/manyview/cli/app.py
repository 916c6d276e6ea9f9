"""`manyview app FOLDER`: the page for browsers on the server of jobs."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import webbrowser
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from ..reconstruction.inputs.options import InputFile
from .job_options import job_command
from .reconstruct import Reconstruct
from .serve import Serve
from .view import has_screen

if TYPE_CHECKING:
    from starlette.types import ASGIApp

    from ..batch.shares import Share
    from ..models.network import Network
    from ..serve.app import Service
    from ..view.access import Access


@dataclasses.dataclass(frozen=True)
class App(Serve):
    """A page in the browser: drop photos or a video, see points, cameras and depth, download exports.

    It is the server of `manyview serve` with a page: one model in memory, one queue. Whatever is killed, no
    job is lost.
    """

    port: int = 7860
    """Port to listen on; 0: any free one."""
    open: bool = True
    """Open the page in the browser of this machine, if it has a screen."""

    def _require(self) -> None:
        from ..errors import optional_module

        # Before it is imported, which is when it decides whether to tell its makers.
        os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
        for name, what, extra in (("trimesh", "the page's 3D view", "app"), ("gradio", "the page", "app")):
            optional_module(name, what, extra)

    @contextlib.contextmanager
    def _application(
        self, service: Service, access: Access, token: str | None, model: Network, share: Share
    ) -> Iterator[ASGIApp]:
        from ..app.mount import page_cache, with_page
        from ..app.page_jobs import PageJobs
        from ..attention.methods import METHODS

        def plan(files: Sequence[InputFile], options: dict[str, Any]) -> str:
            return _sentence(files, options, model, share)

        with page_cache(self.folder) as cache:
            jobs = PageJobs(service, plan, cache, ("dense", "frame", "auto", *METHODS))
            yield with_page(jobs, access, token)

    def _say_address(self, url: str, token: str | None) -> None:
        from .console import say

        address = url if token is None else f"{url}/?token={token}"
        say(f"Open {address}")
        if self.open and has_screen():
            webbrowser.open(address)


def _sentence(files: Sequence[InputFile], options: dict[str, Any], model: Network, share: Share) -> str:
    """What `manyview plan` says first of these files: what would run, how long, in how much memory."""
    from ..reconstruction.inputs.find import input_set
    from ..reconstruction.run.prepare import prepare

    command = job_command(options, Reconstruct, paths=())
    wanted = dataclasses.replace(
        share.onto(command.how.options()), known_where_taken=command.refine != "none"
    )
    ready = prepare(input_set("the uploaded files", files, wanted.inputs), model, wanted)
    return (ready.shared or ready.chosen).sentence()
