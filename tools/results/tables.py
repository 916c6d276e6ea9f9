"""Remake Markdown tables from the JSON beside them: `python -m tools.results.tables [FOLDER ...]`.

Of the results that the tools write: table.md of descriptors (results.json) and long_run.md of streams.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path

from tools.results import flash_table, long_stream


def remake(folder: Path) -> list[Path]:
    """Write the tables below a folder; returns their paths."""
    written = []
    for path in sorted(folder.rglob("*.json")):
        data = json.loads(path.read_text(encoding="utf-8"))
        if path.name == "long_run.json":
            target, text = path.with_suffix(".md"), long_stream.table(data["windows"])
        elif path.name == "results.json" and "flash_table" in data["command"]:
            target, text = path.with_name("table.md"), flash_table.markdown(data)
        else:
            continue
        target.write_text(text, encoding="utf-8")
        written.append(target)
    return written


def main(folders: Sequence[str]) -> None:
    """Remake the tables of docs/results, or of the folders named."""
    for folder in folders or ["docs/results"]:
        for path in remake(Path(folder)):
            sys.stdout.write(f"{path}\n")


if __name__ == "__main__":
    main(sys.argv[1:])
