"""COLMAP in a process of its own: `python process.py WORKER.py REQUEST.json RESULT.json`.

A crash of COLMAP, its messages and its memory stay out of the run that asked. As a script this file imports
nothing of ManyView; WORKER.py defines `run(request) -> result`, both JSON types.
"""

from __future__ import annotations

import json
import os
import runpy
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

_POLL_S = 0.2
LOG = "colmap.log"


def run_worker(
    worker: Path,
    request: dict[str, Any],
    work: Path,
    limit_s: float | None = None,
    poll: Callable[[], None] | None = None,
) -> dict[str, Any]:
    """What a worker returned, or {"error": a sentence, "lasting": whether another run would give the same}.

    Args:
        worker: A script that defines `run`.
        request: Handed to it, as JSON types.
        work: Its working directory; what it prints goes to `colmap.log` there.
        limit_s: All the seconds it gets.
        poll: Called a few times a second; whatever it raises ends the worker.
    """
    asked, result = work / "request.json", work / "result.json"
    result.unlink(missing_ok=True)
    asked.write_text(json.dumps(request), encoding="utf-8")
    command = [sys.executable, "-P", str(Path(__file__).resolve()), str(worker.resolve())]
    # The same ManyView as here, wherever it was found.
    path = os.pathsep.join(filter(None, [str(Path(__file__).parents[3]), os.environ.get("PYTHONPATH")]))
    began = time.monotonic()
    with (work / LOG).open("wb") as log:
        process = subprocess.Popen(
            [*command, asked.name, result.name],
            cwd=work,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            env={**os.environ, "PYTHONPATH": path},
        )
        try:
            while True:
                try:
                    code = process.wait(_POLL_S)
                    break
                except subprocess.TimeoutExpired:
                    if limit_s is not None and time.monotonic() - began > limit_s:
                        return {"error": f"no result within {limit_s:g} s", "lasting": False}
                if poll is not None:
                    poll()
        finally:
            process.kill()
            process.wait()
    if code or not result.is_file():
        return {"error": f"COLMAP ended with code {code}", "lasting": False}
    found: dict[str, Any] = json.loads(result.read_text(encoding="utf-8"))
    return found


def end_with_parent() -> None:
    """Nobody reads what is found after the run that asked was killed, and mapping may take an hour."""
    parent = os.getppid()

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(1)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def main(worker: str, request: str, result: str) -> int:
    """Write what the worker found, or {"error": what went wrong}."""
    end_with_parent()
    try:
        run = runpy.run_path(worker)["run"]
        found = run(json.loads(Path(request).read_text(encoding="utf-8")))
    except Exception as error:  # whatever COLMAP raises is a result for these images
        found = {"error": f"{type(error).__name__}: {error}".splitlines()[0], "lasting": True}
    Path(result).write_text(json.dumps(found), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
