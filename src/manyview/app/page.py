"""The page: files and controls on the left, the result on the right; `handlers` has what its events call."""

from __future__ import annotations

import dataclasses
from typing import Any

import gradio as gr

from ..view.panel import IMAGE_KINDS
from .handlers import EXAMPLES, Handlers
from .page_jobs import NOT_SAID, PageJobs

_EVERY_S = 1.0
CSS = """
.gradio-container { max-width: 1500px !important; }
.bar { height: 6px; border-radius: 3px; background: var(--border-color-primary); overflow: hidden; }
.bar div { height: 100%; background: var(--color-accent); }
.state { padding: 4px 2px; overflow-wrap: anywhere; }
.downloads a { display: inline-block; margin: 0 14px 6px 0; }
.verdict { padding: 4px 2px; overflow-wrap: anywhere; }
.verdict ul { margin: 4px 0 0 18px; list-style: disc; font-size: 90%; }
.grade { padding: 1px 8px; border-radius: 8px; color: white; background: #6b7280; }
.grade.good { background: #15803d; }
.grade.doubtful { background: #b45309; }
.grade.bad { background: #b91c1c; }
.frame img { width: 100%; height: 100%; object-fit: contain; }
"""
# The token stands in a cookie from now on.
HEAD = """<script>(() => { const here = new URL(location); if (here.searchParams.has("token")) {
here.searchParams.delete("token"); history.replaceState(null, "", here); } })()</script>"""
_REMEMBER = "(id) => { history.replaceState(null, '', id ? '?job=' + id : location.pathname); return [id]; }"


@dataclasses.dataclass(frozen=True)
class _Input:
    """Components of the left column."""

    files: gr.File
    controls: list[Any]
    plan: gr.Markdown
    run: gr.Button
    cancel: gr.Button
    state: gr.HTML
    job: gr.Textbox
    mine: gr.Dropdown


@dataclasses.dataclass(frozen=True)
class _Output:
    """Components of the right column."""

    column: gr.Column
    empty: gr.Markdown
    points: gr.Model3D
    shown: list[Any]
    view: gr.Slider
    show_as: gr.Radio
    image: gr.Image
    verdict: gr.HTML
    downloads: gr.HTML


def build_page(jobs: PageJobs) -> gr.Blocks:
    """The page of `jobs`; nothing is kept of a visitor but what stands in the page itself."""
    handlers = Handlers(jobs)
    with gr.Blocks(title="ManyView", analytics_enabled=False, delete_cache=(3600, 86400)) as page:
        gr.Markdown(handlers.heading())
        with gr.Row():
            with gr.Column(scale=2, min_width=340):
                given = _input(jobs, handlers)
            with gr.Column(scale=5, min_width=420):
                result = _output()
        ended = gr.Textbox(visible="hidden")  # the job whose result is shown
        timer = gr.Timer(_EVERY_S, active=False)
        _connect(page, handlers, given, result, ended, timer)
    page.queue(default_concurrency_limit=4, max_size=200)
    return page


def _input(jobs: PageJobs, handlers: Handlers) -> _Input:
    files = gr.File(label="Images, or one video", file_count="multiple", height=190)
    with gr.Row():
        for name in EXAMPLES:
            button = gr.Button(f"Example: {name}", size="sm", min_width=120)
            button.click(lambda name=name: handlers.example(name), None, files, api_visibility="private")
    model = jobs.service.about["model"]
    gr.Dropdown([model], value=model, label="Model", info="the one that the server has in memory")
    controls = [
        gr.Dropdown(
            [NOT_SAID, *jobs.methods],
            value=NOT_SAID,
            allow_custom_value=True,
            label="Method",
            info="plan of global attention, as --accel",
        ),
        gr.Number(0, label="Views at most", info="0: all images; of a video two a second", minimum=0),
        gr.Radio(["none", "cameras", "depth"], value="none", label="Refinement"),
    ]
    with gr.Accordion("Further options", open=False):
        controls += [
            gr.Number(0, label="Image size", info="longer side in pixels; 0: the model's own", minimum=0),
            gr.Textbox(
                "",
                label="Others, as JSON",
                placeholder='{"sky": true}',
                info="by the names of the command line",
            ),
        ]
    plan = gr.Markdown("", min_height=24)
    with gr.Row():
        run = gr.Button("Reconstruct", variant="primary", scale=2)
        cancel = gr.Button("Cancel", variant="stop", interactive=False)
    state = gr.HTML("")
    job = gr.Textbox(
        label="Job", info="the address of this page leads to it again", interactive=False, buttons=["copy"]
    )
    mine = gr.Dropdown([], label="Jobs of this browser", visible=False)
    return _Input(files, controls, plan, run, cancel, state, job, mine)


def _output() -> _Output:
    empty = gr.Markdown("Points, cameras, depth and downloads appear here.")
    with gr.Column(visible=False) as column:
        verdict = gr.HTML("")
        points = gr.Model3D(label="Points and cameras", height=520, clear_color=(0.07, 0.08, 0.1, 1.0))
        with gr.Row():
            shown = [
                gr.Slider(0, 98, 50, step=2, label="Hide unsure points (%)", scale=3),
                gr.Checkbox(True, label="Cameras", scale=1, min_width=100),
                gr.Checkbox(False, label="Sky", visible=False, scale=1, min_width=100),
            ]
        with gr.Row():
            view = gr.Slider(1, 2, 1, step=1, label="View", scale=2)
            show_as = gr.Radio(list(IMAGE_KINDS), value=IMAGE_KINDS[0], label="Show", scale=2)
        image = gr.Image(
            show_label=False, height=380, buttons=["download", "fullscreen"], elem_classes="frame"
        )
        gr.Markdown("### Downloads")
        downloads = gr.HTML("")
    return _Output(column, empty, points, shown, view, show_as, image, verdict, downloads)


def _connect(
    page: gr.Blocks, handlers: Handlers, given: _Input, result: _Output, ended: gr.Textbox, timer: gr.Timer
) -> None:
    asked = [given.files, *given.controls]
    gr.on(
        [component.change for component in asked],
        handlers.plan,
        asked,
        given.plan,
        api_name="plan",
        trigger_mode="always_last",
        show_progress="minimal",
        concurrency_limit=1,
    )
    given.run.click(handlers.reconstruct, asked, given.job, api_name="reconstruct", show_progress="hidden")
    cancelled = [given.state, given.job]
    given.cancel.click(handlers.cancel, given.job, cancelled, api_name="cancel", show_progress="hidden")
    gr.api(handlers.status, api_name="status")
    quiet: dict[str, Any] = {"api_visibility": "private", "show_progress": "hidden"}
    progress = [given.state, given.cancel, timer, ended]
    given.job.change(handlers.progress, given.job, progress, js=_REMEMBER, **quiet)
    # In this browser alone: ids of the jobs that it started.
    mine = gr.BrowserState([], storage_key="manyview-jobs", secret="manyview")
    remembered: Any = (handlers.remembered, [given.job, mine], [mine, given.mine])
    given.job.change(*remembered, **quiet)
    given.mine.input(lambda id: id, given.mine, given.job, **quiet)
    timer.tick(handlers.progress, given.job, progress, **quiet)
    page.load(handlers.job_of_address, None, given.job, **quiet).then(*remembered, **quiet)
    views = [result.view, result.show_as]
    ended.change(
        handlers.result,
        [ended],
        [result.column, result.empty, result.verdict, result.view, result.shown[-1], result.downloads],
        **quiet,
    ).then(handlers.points, [ended, *result.shown], result.points, **quiet).then(
        handlers.image, [ended, *views], result.image, **quiet
    )
    for control in (result.shown[0].release, *(box.input for box in result.shown[1:])):
        control(
            handlers.points,
            [ended, *result.shown],
            result.points,
            trigger_mode="always_last",
            api_visibility="private",
        )
    for control in (result.view.input, result.show_as.input):
        control(handlers.image, [ended, *views], result.image, trigger_mode="always_last", **quiet)
