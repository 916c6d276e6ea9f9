"""A copy of the package with one more file and one more line: what adding a thing of some kind takes."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import weakref
from pathlib import Path

import manyview

_SERVER = """
import contextlib, io, json, os, sys
from manyview.cli.main import run
for line in sys.stdin:
    folder, command = json.loads(line)
    os.chdir(folder)
    with contextlib.redirect_stdout(io.StringIO()) as out, contextlib.redirect_stderr(io.StringIO()) as err:
        status = run(command)
    print(json.dumps([status, out.getvalue(), err.getvalue()]), flush=True)
"""


class ExtendedPackage:
    """The package below `folder`, with `file` added and `old` replaced by `new` once in `list_file`.

    Paths are relative to the package; weights are linked, not copied.
    """

    def __init__(self, folder: Path, file: str, text: str, list_file: str, old: str, new: str) -> None:
        self._process: subprocess.Popen[str] | None = None
        source, self._root = Path(manyview.__file__).parent, folder / "extended"
        target = self._root / "manyview"
        shutil.copytree(source, target, ignore=shutil.ignore_patterns("bundled"))
        (target / "models" / "bundled").symlink_to(source / "models" / "bundled")
        self.add(file, text, list_file, old, new)

    def add(self, file: str, text: str, list_file: str, old: str, new: str) -> None:
        """Adds another one, before anything runs."""
        target = self._root / "manyview"
        (target / file).parent.mkdir(parents=True, exist_ok=True)
        (target / file).write_text(text, encoding="utf-8")
        listed = (target / list_file).read_text(encoding="utf-8")
        assert listed.count(old) == 1, f"{list_file} has {listed.count(old)} places like {old!r}"
        (target / list_file).write_text(listed.replace(old, new), encoding="utf-8")

    def run(self, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
        """The command `manyview` with these arguments; run by one process, as starting takes long."""
        if self._process is None:
            environment = {**os.environ, "PYTHONPATH": str(self._root)}
            self._process = subprocess.Popen(
                [sys.executable, "-c", _SERVER],
                env=environment,
                text=True,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
            )
            weakref.finalize(self, _end, self._process)
        assert self._process.stdin is not None and self._process.stdout is not None
        command = [str(argument) for argument in arguments]
        print(json.dumps([os.getcwd(), command]), file=self._process.stdin, flush=True)
        return subprocess.CompletedProcess(command, *json.loads(self._process.stdout.readline()))


def _end(process: subprocess.Popen[str]) -> None:
    with process:
        process.kill()
