"""Places in Markdown pages between `<!-- KIND:NAME -->` and `<!-- /KIND -->`, which a command fills.

`numbers` are what a checkpoint carries (`tools.results.model_card`), `results` what stands in docs/results
(`tools.results.tables`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from manyview.errors import OutputError, UsageError


def fill_marks(page: str | Path, kind: str, tables: Mapping[str, Callable[[], str]]) -> list[str]:
    """Replace what stands in the places of one kind; returns their names.

    Raises:
        UsageError: A page without such a place, or a place without an end or of an unknown name.
        OutputError: A page that cannot be read or written.
    """
    path = Path(page)
    try:
        text = path.read_text("utf-8")
    except OSError as error:
        raise OutputError(f"cannot read {path}: {error.strerror}") from error
    first, *pieces = text.split(f"<!-- {kind}:")
    found, result, end = [], first, f"<!-- /{kind} -->"
    for piece in pieces:
        name, opened, rest = piece.partition(" -->")
        _, closed, after = rest.partition(end)
        if not opened or not closed or name not in tables:
            known = ", ".join(tables)
            raise UsageError(f"{path}: '<!-- {kind}:{name}' needs an end and one of the names {known}")
        found.append(name)
        result += f"<!-- {kind}:{name} -->\n{tables[name]()}\n{end}{after}"
    if not found:
        raise UsageError(f"{path} has no place to fill: mark one with <!-- {kind}:{next(iter(tables))} -->")
    try:
        path.write_text(result, "utf-8")
    except OSError as error:
        raise OutputError(f"cannot write {path}: {error.strerror}") from error
    return found
