"""A copy of the package with one more file and one more line: what adding a thing of some kind takes."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import manyview


class ExtendedPackage:
    """The package below `folder`, with `file` added and `old` replaced by `new` once in `list_file`.

    Paths are relative to the package; weights are linked, not copied.
    """

    def __init__(self, folder: Path, file: str, text: str, list_file: str, old: str, new: str) -> None:
        source, self._root = Path(manyview.__file__).parent, folder / "extended"
        target = self._root / "manyview"
        shutil.copytree(source, target, ignore=shutil.ignore_patterns("bundled"))
        (target / "models" / "bundled").symlink_to(source / "models" / "bundled")
        (target / file).parent.mkdir(parents=True, exist_ok=True)
        (target / file).write_text(text, encoding="utf-8")
        listed = (target / list_file).read_text(encoding="utf-8")
        assert listed.count(old) == 1, f"{list_file} has {listed.count(old)} places like {old!r}"
        (target / list_file).write_text(listed.replace(old, new), encoding="utf-8")

    def run(self, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
        """The command `manyview` with these arguments."""
        environment = {**os.environ, "PYTHONPATH": str(self._root)}
        command = [sys.executable, "-m", "manyview.cli.main", *map(str, arguments)]
        return subprocess.run(command, env=environment, capture_output=True, text=True, cwd=self._root)
