"""A server in a process of its own, some of whose jobs wait."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

# Jobs called "slow", or of a file called slow.png, wait while there is the file HOLD.
_MAY_WAIT = """
import os, sys, time
import manyview.cli.serve_job as module
from manyview.cli.main import main

class Waiting(module.ReconstructJob):
    def __call__(self, model, task, share, tell):
        slow = task.job.asked.name == "slow" or task.job.files[0].name == "slow.png"
        while slow and os.path.exists(os.environ["HOLD"]):
            tell(("wait", 1, 4))
            time.sleep(0.02)
        return super().__call__(model, task, share, tell)

module.ReconstructJob = Waiting
if __name__ == "__main__":
    main(sys.argv[1:])
"""


class WaitingServer:
    """`manyview serve` or `app` on the folder `jobs`; after a kill `start` again, at the same address."""

    def __init__(self, place: Path, command: str, *options: object) -> None:
        self.hold, self.jobs = place / "hold", place / "jobs"
        self._script, self._port = place / "script.py", "0"
        self._script.write_text(_MAY_WAIT)
        self._environment = {"PYTHONPATH": os.pathsep.join(sys.path), "HOLD": str(self.hold)}
        self._environment["OMP_NUM_THREADS"] = "1"  # as the tests, so that results are equal to the bit
        self._line = [command, str(self.jobs), *map(str, options)]
        self.start()

    def start(self) -> None:
        self.process = subprocess.Popen(
            [sys.executable, str(self._script), *self._line, "--port", self._port],
            env={**os.environ, **self._environment},
            stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        found = None
        while found is None:
            assert self.process.stdout is not None
            said = self.process.stdout.readline()
            assert said, "the server ended"
            found = re.match(r"(?:Open )?(http://127\.0\.0\.1:(\d+))(?: serves |$)", said)
        self.url, self._port = found.groups()

    def end(self, how: signal.Signals = signal.SIGTERM) -> str:
        """Send a signal, wait, and return what the server said last."""
        self.process.send_signal(how)
        said, _ = self.process.communicate(timeout=60)
        return said
