"""The pool of a batch without processes."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

from manyview.batch.pool import Answer, Failure
from manyview.errors import ManyViewError


def in_this_process(
    model: Any,
    tasks: Any,
    work: Any,
    having: Any,
    heard: Any = None,
    keep_going: bool = False,
    cancelled: Any = None,
) -> Iterator[Answer]:
    """In place of `run_side_by_side`: one task after the other, here."""
    for task in tasks:
        if task is None:
            time.sleep(0.01)
            continue
        start = time.monotonic()
        try:
            result = work(model, task, having[0], lambda told, task=task: heard(task, told))
        except ManyViewError as error:
            result = Failure(str(error), error.exit_code)
        yield Answer(task, result, time.monotonic() - start)
