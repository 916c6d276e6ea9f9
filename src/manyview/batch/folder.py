"""The folder of a batch: its results, and in a hidden folder its record, its claims and its journal."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from ..errors import DamagedInputError, OutputError
from ..files.lock import check_folder
from ..files.naming import enumerated
from ..files.schema import read_json
from ..files.writing import OWN_PREFIX, check_writable, created_folder, entries, output_errors
from .claims import create_once

BATCH_NAME = f"{OWN_PREFIX}batch"
CLAIMS_NAME, JOURNAL_NAME = "claims", "journal"
_RECORD_NAME = "batch.json"
_FORMAT = "manyview batch"
_PATIENCE_S = 5.0  # for another runner that has just begun to write the record


class _Record(msgspec.Struct, frozen=True):
    """How all scenes are reconstructed, by option."""

    format: str
    format_version: int
    options: dict[str, Any]


def check_batch_folder(out: Path, resume: bool = False) -> bool:
    """Whether `out` holds a batch already; ask before long work.

    Raises OutputError where none can be begun: the folder holds other things, cannot be written to, or, with
    `resume`, holds no batch.
    """
    check_folder(out)
    check_writable(out)
    if (out / BATCH_NAME / _RECORD_NAME).exists():
        return True
    if resume:
        raise OutputError(f"{out}: holds no batch to go on with; leave out --resume, or name its folder")
    names = entries(out) if out.is_dir() else []
    if names and not (out / BATCH_NAME / _RECORD_NAME).exists():
        raise OutputError(
            f"{out}: the folder is not empty ({enumerated(names, 1)}) and holds no batch; choose an empty one"
        )
    return False


def open_batch(out: Path, options: Mapping[str, Any]) -> Path:
    """The hidden folder of the batch in `out`, which is begun if there is none.

    Args:
        out: The folder of the results.
        options: What decides the results beside the inputs, as JSON types: the same for every runner.

    Raises:
        OutputError: As `check_batch_folder`; and for a batch with other options.
        DamagedInputError: Its record cannot be read.
    """
    hidden = out / BATCH_NAME
    record = hidden / _RECORD_NAME
    with output_errors(out, 0), created_folder(out):
        begun = check_batch_folder(out)
        for name in (CLAIMS_NAME, JOURNAL_NAME):
            (hidden / name).mkdir(parents=True, exist_ok=True)
        if not begun:
            create_once(record, msgspec.json.encode(_Record(_FORMAT, 1, dict(options))))
    found = _read(record)
    if found.format != _FORMAT or found.format_version != 1:
        raise OutputError(f"{record}: was not written by this release of ManyView; choose another folder")
    for name in sorted(options.keys() | found.options.keys()):
        if options.get(name) != found.options.get(name):
            raise OutputError(
                f"{out}: its batch was begun with {_said(name, found.options)}, not with "
                f"{_said(name, options)}; give the same options, or choose another folder"
            )
    return hidden


def _said(name: str, options: Mapping[str, Any]) -> str:
    value = options.get(name)
    shown = "the default" if value is None or value == () else value
    return f"--{name.replace('_', '-')} {shown}"


def _read(path: Path) -> _Record:
    remedy = f"remove the folder {path.parent} to begin anew; results are kept"
    end = time.monotonic() + _PATIENCE_S
    while True:
        try:
            return read_json(path, _Record, remedy=remedy)
        except DamagedInputError:
            if time.monotonic() > end or os.path.getsize(path):
                raise
        time.sleep(0.05)
