"""Answers to requests: JSON, one sentence for what is refused, files, a folder as a tar archive."""

from __future__ import annotations

import os
import tarfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from starlette.responses import Response

from ..files.schema import open_regular
from ..files.writing import OWN_PREFIX
from .job import encoded

_PIECE = 2**20
FILE_HEADERS = {
    # Whatever a result holds, no browser runs it as a page of this server.
    "X-Content-Type-Options": "nosniff",
    "Content-Security-Policy": "sandbox",
}


def as_json(value: Any, status: int = 200) -> Response:
    """`value` as JSON; structs too."""
    return Response(encoded(value), status, media_type="application/json")


def sentence(status: int, text: str) -> Response:
    """Why a request was refused or failed."""
    return as_json({"error": " ".join(text.split())}, status)


def files_of(folder: Path) -> dict[str, int]:
    """Names, with forward slashes, and sizes of the files of a result; no links, none that we keep for us."""
    found = {}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if path.is_file() and not path.is_symlink() and not name.startswith(OWN_PREFIX):
            found[name] = path.stat().st_size
    return found


def tar_pieces(folder: Path, names: Iterable[str]) -> Iterator[bytes]:
    """Files of a result as a tar archive, as it is read."""
    for name in names:
        with open_regular(folder / name) as file:
            status = os.fstat(file.fileno())
            header = tarfile.TarInfo(name)
            header.size, header.mtime, header.mode = status.st_size, int(status.st_mtime), 0o644
            yield header.tobuf(tarfile.PAX_FORMAT)
            left = header.size
            while left:
                piece = file.read(min(_PIECE, left))
                if not piece:
                    raise OSError(f"{name} became shorter while it was sent")
                left -= len(piece)
                yield piece
        yield b"\0" * (-header.size % tarfile.BLOCKSIZE)
    yield b"\0" * (2 * tarfile.BLOCKSIZE)
