"""What the events of the page call: their arguments and returns are values of its components."""

from __future__ import annotations

import functools
import html
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar

import gradio as gr
import msgspec
import numpy as np
from PIL import Image

from .._version import __version__
from ..errors import ManyViewError, in_one_sentence
from ..export import FORMATS
from ..files.naming import counted
from ..files.rendered import rendered_mark
from ..serve.job import JobView, NoSuchJobError
from ..synthetic import demo_scene
from .page_jobs import Controls, PageJobs
from .results import Results, Shown

EXAMPLES = {"8 images": 8, "3 images": 3}
P = ParamSpec("P")
T = TypeVar("T")


def in_a_sentence(call: Callable[P, T]) -> Callable[P, T]:
    """Shows errors on the page, and to clients, as one sentence."""

    @functools.wraps(call)
    def told(*args: P.args, **options: P.kwargs) -> T:
        try:
            return call(*args, **options)
        except gr.Error:
            raise
        except Exception as error:
            # It is shown as HTML, and names files.
            text = html.escape(in_one_sentence(error)[0], quote=False)
            raise gr.Error(text, print_exception=False) from error

    return told


def as_code(text: str) -> str:
    """As code: it may name files, whose characters Markdown would read as mark-up."""
    return "`" + text.replace("`", "'") + "`"


class Handlers:
    """What happens on the page of `jobs`."""

    def __init__(self, jobs: PageJobs) -> None:
        self._jobs = jobs
        self._results = Results(jobs.service.queue, jobs.cache)

    def heading(self) -> str:
        """What the server is, in Markdown."""
        about = self._jobs.service.about
        licence = f"  \n{as_code(about['licence'])}" if about.get("licence") else ""
        return (
            "# ManyView\nPhotos or a video in; cameras, depth maps and a point cloud out. "
            f"Version {__version__}, model {as_code(about['model'])} on {as_code(about['device'])}.{licence}"
        )

    @in_a_sentence
    def example(self, name: str) -> list[str]:
        """Images of a procedural scene, as if they had been uploaded."""
        count = EXAMPLES[name]
        folder = self._jobs.cache / f"example-{count}"
        paths = [folder / f"{number:04d}.png" for number in range(1, count + 1)]
        if not all(path.is_file() for path in paths):
            folder.mkdir(exist_ok=True)
            images = (demo_scene(count).images[0] * 255).round().byte().permute(0, 2, 3, 1).numpy()
            for path, image in zip(paths, images, strict=True):
                Image.fromarray(image).save(path, pnginfo=rendered_mark())
        return [str(path) for path in paths]

    @in_a_sentence
    def plan(
        self,
        files: list[str] | None,
        method: str | None,
        views: float,
        refinement: str,
        image_size: float,
        further: str,
    ) -> str:
        """What a run of these files would be, memory and time, or why it cannot be one."""
        if not files:
            return ""
        controls = Controls(method or "", views, refinement, image_size, further)
        try:
            return as_code(self._jobs.sentence(files, controls))
        except ManyViewError as error:
            return f"**Not possible**: {as_code(str(error))}"

    @in_a_sentence
    def reconstruct(
        self,
        files: list[str] | None,
        method: str | None,
        views: float,
        refinement: str,
        image_size: float,
        further: str,
    ) -> str:
        """Put a job of these files into the queue; returns its id."""
        controls = Controls(method or "", views, refinement, image_size, further)
        return self._jobs.submit(files or [], controls)

    @in_a_sentence
    def status(self, job: str) -> dict[str, Any]:
        """A job as GET /jobs/ID gives it."""
        found: dict[str, Any] = msgspec.to_builtins(self._jobs.view(job))
        return found

    @in_a_sentence
    def cancel(self, job: str) -> tuple[str, str]:
        """End a job that waits or runs."""
        self._jobs.cancel(job)
        return _state("Cancelled", ""), ""

    def job_of_address(self, request: gr.Request) -> str:
        """The id in ?job=, or none."""
        return str(request.query_params.get("job", ""))

    @in_a_sentence
    def progress(self, job: str) -> tuple[Any, ...]:
        """Of a job: its state, whether it can be cancelled, whether to ask again, whose result to show."""
        if not job:
            return gr.skip(), gr.Button(interactive=False), gr.Timer(active=False), ""
        try:
            view = self._jobs.view(job)
        except NoSuchJobError:
            gone = _state("There is no such job", "it was cancelled or removed")
            return gone, gr.Button(interactive=False), gr.Timer(active=False), ""
        active = view.state in ("queued", "running")
        ended = view.id if view.state == "done" else ""
        return _described(view), gr.Button(interactive=active), gr.Timer(active=active), ended

    def remembered(self, job: str, mine: list[str]) -> tuple[list[str], Any]:
        """The jobs that this browser started or opened and that are still there, newest first."""
        there = {view.id: view for view in self._jobs.service.queue.jobs()}
        kept = [id for id in dict.fromkeys((job, *mine)) if id in there]
        choices = [(f"{id}, {counted(len(there[id].files), 'file')}", id) for id in kept]
        return kept, gr.Dropdown(choices=choices, value=job if job in kept else None, visible=bool(kept))

    @in_a_sentence
    def result(self, job: str) -> tuple[Any, ...]:
        """What is fixed of a result: verdict, number of views, whether there is sky, downloads."""
        if not job:
            return gr.Column(visible=False), gr.Markdown(visible=True), "", gr.Slider(), gr.Checkbox(), ""
        scene = self._results.scene(job)
        return (
            gr.Column(visible=True),
            gr.Markdown(visible=False),
            self._results.verdict(job),
            gr.Slider(maximum=max(2, len(scene)), value=1, interactive=len(scene) > 1),
            gr.Checkbox(visible=scene.sky is not None),
            _downloads(job),
        )

    @in_a_sentence
    def points(self, job: str, hidden_percent: float, cameras: bool, sky: bool) -> str | None:
        """A GLB file of the points."""
        return str(self._results.points(job, Shown(hidden_percent, cameras, sky))) if job else None

    @in_a_sentence
    def image(self, job: str, view: float, show_as: str) -> np.ndarray | None:
        """The image, depth or confidence of a view."""
        return self._results.image(job, int(view), show_as) if job else None


def _described(job: JobView) -> str:
    if job.state == "queued":
        return _state("Waits", f"place {job.position} in the queue")
    if job.state == "running":
        share = f", {job.share:.0%}" if job.total else ""
        return _state("Runs", f"{job.stage or 'starts'}{share}", job.share, job.expected)
    if job.state == "failed":
        return _state("Failed", job.sentence)
    return _state("Done", f"{job.views} views in {job.seconds:.1f} s", 1.0)


def _state(name: str, text: str, share: float | None = None, more: str = "") -> str:
    bar = "" if share is None else f'<div class="bar"><div style="width:{share:.1%}"></div></div>'
    said = f": {html.escape(text)}" if text else ""
    return f'<div class="state"><b>{name}</b>{said}{bar}<small>{html.escape(more)}</small></div>'


def _downloads(job: str) -> str:
    links = {f"/jobs/{job}/exports/{name}": (name, kind.about) for name, kind in FORMATS.items()}
    links[f"/jobs/{job}/result.tar"] = ("result", "everything, as manyview reconstruct writes it")
    rows = [
        f'<a href="{html.escape(address)}" download title="{html.escape(about)}">{name}</a>'
        for address, (name, about) in links.items()
    ]
    return f'<div class="downloads">{"".join(rows)}</div>'
