"""Strict reading of JSON: regular files, limits, types, and errors that name file and entry."""

from __future__ import annotations

import json
import os
import socket
import tempfile
from pathlib import Path

import msgspec
import pytest

from manyview.errors import DamagedInputError, InputError, OutputError
from manyview.files.manifest import MANIFEST_NAME, read_manifest
from manyview.files.schema import (
    MAX_DEPTH,
    Finite,
    Natural,
    check_regular,
    convert,
    open_regular,
    parse_json,
    read_json,
)


class Entry(msgspec.Struct):
    name: str
    count: Natural = 0


class Document(msgspec.Struct):
    views: tuple[Entry, ...]
    scale: Finite = 1.0


def test_a_document_is_read_as_its_type(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text('{"views": [{"name": "ä[{\\"", "count": 3}], "newer": {}}')
    assert read_json(path, Document, remedy="x") == Document((Entry('ä[{"', 3),))


@pytest.mark.parametrize(
    ("text", "entry"),
    [
        ('{"views": [{"name": "a"}, {"name": 5}]}', "views[1].name"),
        ('{"views": [{"name": "a", "count": -1}]}', "views[0].count"),
        ('{"views": [{"name": "a", "count": "1"}]}', "views[0].count"),
        ('{"views": [{"name": "a", "count": 1.5}]}', "views[0].count"),
        ('{"views": [{"name": "a", "count": 1e400}]}', "range"),
        ('{"views": [], "scale": NaN}', "a.json"),
        ('{"views": [], "scale": 1e999}', "range"),
        ('{"views": [], "scale": 1e999, "x": "\\udcff"}', "range"),
        ('{"views": [], "scale": NaN, "x": "\\udcff"}', "NaN"),
        ('{"views": [{"name": "\\udcff", "count": "1"}]}', "views[0].count"),
        ("{}", "views"),
        ("[]", "a.json"),
        ("", "a.json"),
        ("{" * 10**6, "deep"),
        ('{"views": [], "x": ' + "[" * 200_000 + "]" * 200_000 + "}", "deep"),
        ('{"views": [], "scale": ' + "1" * 100_000 + "}", "range"),
    ],
)
def test_an_error_names_the_file_and_the_entry(tmp_path: Path, text: str, entry: str) -> None:
    path = tmp_path / "a.json"
    path.write_text(text)
    with pytest.raises(DamagedInputError, match=r"a\.json") as caught:
        read_json(path, Document, remedy="write it again")
    assert entry in str(caught.value) and str(caught.value).endswith("write it again")


def test_brackets_in_strings_do_not_count() -> None:
    assert parse_json(b'{"views": [{"name": "' + b"[" * 1000 + b'\\""}]}', Document).views[0].name[0] == "["
    nested = b"[" * MAX_DEPTH + b"]" * MAX_DEPTH
    assert parse_json(nested, list) != []


def test_a_long_unclosed_string_is_refused_quickly() -> None:
    with pytest.raises(ValueError):
        parse_json(b'"' + b'\\"' * 2_000_000, str)


def test_names_that_are_no_utf_8_survive() -> None:
    assert parse_json('{"name": "\\udcff"}', Entry).name == os.fsdecode(b"\xff")


def test_bytes_that_are_no_utf_8_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_bytes(b'{"name": "\xff"}')
    with pytest.raises(InputError, match=r"a\.json"):
        read_json(path, Entry, remedy="x", error=InputError)


def test_values_in_memory_are_finite_too() -> None:
    for value in (float("nan"), float("inf"), 10**400):
        with pytest.raises(ValueError, match="scale"):
            convert({"views": [], "scale": value}, Document)


def test_only_regular_files_are_opened(tmp_path: Path) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    with tempfile.TemporaryDirectory(dir="/tmp") as short, socket.socket(socket.AF_UNIX) as listener:
        listener.bind(f"{short}/s")
        for path in (fifo, tmp_path, Path("/dev/zero"), Path(f"{short}/s"), tmp_path / "none"):
            with pytest.raises(InputError, match=path.name):
                read_json(path, Entry, remedy="x", unreadable=InputError)
            for function in (open_regular, check_regular):
                with pytest.raises(OSError):
                    function(path)


def test_a_large_file_is_refused_before_it_is_parsed(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_bytes(b" " * 1001)
    with pytest.raises(DamagedInputError, match="1000"):
        read_json(path, Entry, remedy="x", most=1000)


@pytest.mark.parametrize(
    "text",
    [
        "[" * 100_000,
        '{"exports": {"ply": {"files": {"points.ply": 5}}}}',
        '{"exports": {"ply": {"files": {"points.ply": "../x"}}}}',
        '{"exports": {"ply": {"files": ["points.ply"]}}}',
        '{"exports": NaN}',
    ],
)
def test_an_edited_export_manifest_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / MANIFEST_NAME
    path.write_text(text)
    with pytest.raises(OutputError, match=MANIFEST_NAME):
        read_manifest(path)


def test_a_fifo_as_export_manifest_is_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / MANIFEST_NAME)
    with pytest.raises(OutputError, match=MANIFEST_NAME):
        read_manifest(tmp_path / MANIFEST_NAME)


def test_other_fields_of_an_export_manifest_are_kept(tmp_path: Path) -> None:
    manifest = {
        "exports": {"ply": {"files": {"p.ply": "0" * 64}, "options": {"x": 1}}},
        "manyview_version": "1",
    }
    (tmp_path / MANIFEST_NAME).write_text(json.dumps(manifest))
    assert read_manifest(tmp_path / MANIFEST_NAME) == manifest
    assert read_manifest(tmp_path / "none") == {"exports": {}}
