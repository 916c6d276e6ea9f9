"""What a command found, safe after every case: OUT/COMMAND.json, and OUT/COMMAND.tar.gz with all logs."""

from __future__ import annotations

import json
import os
import tarfile
import tempfile
import time
from pathlib import Path
from typing import Any


class Results:
    """Two files in `out`, each replaced as a whole; the tar has what else there is, which lies in `folder`.

    `case` figures by name; `facts` about the machine and the settings; `text` for a person.
    """

    def __init__(self, out: Path, command: str, facts: dict[str, Any]) -> None:
        out.mkdir(parents=True, exist_ok=True)
        self.out, self._command = out, command
        self.folder = Path(tempfile.mkdtemp(prefix=f"gpu-check-{command}-"))
        self._started = time.monotonic()
        self.facts = facts
        self.cases: dict[str, dict[str, Any]] = {}
        self.text = ""
        self.save()

    def put(self, name: str, figures: dict[str, Any]) -> None:
        """Figures of a case, in place of what it had."""
        self.cases[name] = figures
        self.save()

    def save(self) -> None:
        """Write both files."""
        seconds = round(time.monotonic() - self._started, 1)
        everything = {"command": self._command, "seconds": seconds, **self.facts, "cases": self.cases}
        everything["text"] = self.text.splitlines()
        text = json.dumps(everything, indent=1, default=str) + "\n"
        (self.folder / f"{self._command}.txt").write_text(self.text + "\n", encoding="utf-8")
        part = self.out / f".{self._command}.part"
        part.write_text(text, encoding="utf-8")
        os.replace(part, self.out / f"{self._command}.json")
        with tarfile.open(part, "w:gz") as archive:
            archive.add(self.folder, arcname=self._command)
        os.replace(part, self.out / f"{self._command}.tar.gz")
