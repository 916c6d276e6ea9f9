"""The page onto the server: Gradio's settings, its folder, and the guard in front of both."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

import gradio
from fastapi import FastAPI
from starlette.types import ASGIApp

from ..files.transaction import staging
from ..serve.app import make_app
from ..serve.guard import Guard
from ..view.access import Access
from .narrow import Narrow
from .page import CSS, HEAD, build_page
from .page_jobs import PageJobs

_FOLDERS = ("GRADIO_TEMP_DIR", "GRADIO_EXAMPLES_CACHE")


@contextlib.contextmanager
def page_cache(folder: Path) -> Iterator[Path]:
    """A hidden folder in that of the jobs for uploads and what is shown; it goes with the page."""
    with staging(folder.resolve()) as cache:
        before = {name: os.environ.get(name) for name in _FOLDERS}
        os.environ.update(dict.fromkeys(_FOLDERS, str(cache)))
        try:
            yield cache
        finally:
            for name, value in before.items():
                os.environ.pop(name)
                if value is not None:
                    os.environ[name] = value


def with_page(jobs: PageJobs, access: Access, token: str | None) -> Guard:
    """The server of jobs with the page at `/`. Call it within `page_cache`."""

    def add(app: FastAPI) -> ASGIApp:
        page = build_page(jobs)
        # System fonts, so that none is downloaded; no history of runs in the browser, no usage data.
        theme = gradio.themes.Default(
            primary_hue="blue", font=["system-ui", "sans-serif"], font_mono=["ui-monospace", "monospace"]
        )
        gradio.mount_gradio_app(
            app,
            page,
            path="/",
            footer_links=["api"],
            run_history=False,
            max_file_size=f"{jobs.service.limits.max_upload_mib}mb",
            ssr_mode=False,
            enable_monitoring=False,
            mcp_server=False,
            pwa=False,
            theme=theme,
            css=CSS,
            head=HEAD,
        )
        # Without it a mounted page takes any path of this machine for an uploaded file.
        page.has_launched = True
        return Narrow(app, jobs.cache, jobs.service.limits)

    return make_app(jobs.service, access, token, add)
