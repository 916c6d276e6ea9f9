"""A queue in a folder, and a server of it without a port; both without a model."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from manyview.cli.job_options import JOB_OPTIONS, check_model, job_command
from manyview.cli.reconstruct import Reconstruct
from manyview.serve.job import Job
from manyview.serve.limits import Limits
from manyview.serve.queue import JobQueue, open_queue
from manyview.view.access import Access

from ..cli.conftest import command, weights

__all__ = ["command", "weights"]
LIMITS = Limits(max_upload_mib=1, max_images=3, max_pixels=10_000, max_waiting=2)


@pytest.fixture
def told() -> list[Job]:
    """Jobs that have ended."""
    return []


@pytest.fixture
def queue(tmp_path: Path, told: list[Job]) -> Iterator[JobQueue]:
    with open_queue(tmp_path / "jobs", most_waiting=LIMITS.max_waiting, told=told.append) as queue:
        yield queue


@pytest.fixture
def http(queue: JobQueue) -> Callable[..., Any]:
    """A client of a server of the queue: `http(host="127.0.0.1", token=None)`."""
    pytest.importorskip("fastapi", reason="the server needs the extra 'serve'")
    from starlette.testclient import TestClient

    from manyview.serve.app import Service, make_app

    def check(options: dict[str, Any]) -> None:
        check_model(options.get("model"), ("tiny",))
        job_command(options, Reconstruct, paths=())

    def client(host: str = "127.0.0.1", token: str | None = None) -> Any:
        access = Access(host) if token is None else Access(host, token)
        service = Service(queue, JOB_OPTIONS, check, {"model": "tiny", "device": "cpu"}, LIMITS)
        return TestClient(make_app(service, access, token), base_url=f"http://{host}:7870")

    return client
