"""A page whose jobs nobody does: each line on standard input has the job that waits longest be done.

In a process of its own, because Gradio leaves event loops and sockets to the garbage collector, and warns.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from manyview.app.mount import page_cache, with_page
from manyview.app.page_jobs import PageJobs
from manyview.batch.pool import Answer
from manyview.cli.job_options import JOB_OPTIONS, check_model, job_command
from manyview.cli.reconstruct import Reconstruct
from manyview.serve.app import Service
from manyview.serve.folder import RESULT_NAME
from manyview.serve.job import Outcome
from manyview.serve.limits import Limits
from manyview.serve.queue import open_queue
from manyview.serve.running import listening, serving
from manyview.view.access import Access

from ..view.scenes import wall_scene

LIMITS = Limits(max_upload_mib=1, max_images=3, max_pixels=10_000, max_waiting=20)
TOKEN = "secret"


def tell(value: Any) -> None:
    sys.stdout.write(json.dumps(value) + "\n")
    sys.stdout.flush()


def main(folder: Path) -> None:
    def check(options: dict[str, Any]) -> None:
        check_model(options.get("model"), ("tiny",))
        job_command(options, Reconstruct, paths=())

    access = Access("127.0.0.1", TOKEN)
    with (
        open_queue(folder, most_waiting=LIMITS.max_waiting) as queue,
        page_cache(folder) as cache,
        listening("127.0.0.1", 0) as socket,
    ):
        service = Service(queue, JOB_OPTIONS, check, {"model": "tiny", "device": "cpu"}, LIMITS)
        jobs = PageJobs(
            service,
            lambda files, options: f"{len(files)} files, {sorted(options)}",
            cache,
            ("dense", "avggt"),
        )
        with serving(with_page(jobs, access, TOKEN), access, socket) as url:
            tell([url, str(cache)])
            for _ in sys.stdin:
                task = next(queue.tasks())
                assert task is not None
                wall_scene().save(task.folder / RESULT_NAME)
                queue.ended(Answer(task, Outcome(views=3), 0.5))
                tell(task.job.id)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
