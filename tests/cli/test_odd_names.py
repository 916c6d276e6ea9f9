"""What a name of a file holds besides text reaches no terminal as it is."""

from __future__ import annotations

import io
import logging
import os
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from manyview.cli.console import say, say_notes
from manyview.files.naming import printable

from .conftest import Command

_ODD = "\x1b[2J\x07\u202e\n.jpg"


@given(st.text(alphabet=st.characters(exclude_categories=())))
def test_printable_text_is_one_line_that_can_be_stored(text: str) -> None:
    shown = printable(text)
    assert (
        shown.encode() == shown.encode("utf-8", "ignore")
        and "\x1b" not in shown
        and len(shown.splitlines()) <= 1
    )
    assert printable(shown) == shown


@pytest.mark.skipif(os.name == "nt", reason="names that POSIX allows")
def test_names_are_escaped_in_lines_notes_and_errors(
    command: Command, photos: Path, weights: Path, tmp_path: Path
) -> None:
    name = _ODD + os.fsdecode(b"\xff.jpg")
    (photos / name).write_text("not an image")
    out = tmp_path / f"out{_ODD}"
    status, stdout, stderr = command("reconstruct", photos, out, "--model", weights, "--to", "ply", "depth")
    assert status == 0 and out.is_dir()
    (note,) = [line for line in stdout.splitlines() if line.startswith("note: ") and "skipped" in line]
    assert "\\x1b[2J\\x07\\u202e\\n.jpg\ufffd.jpg" in note
    assert not set(stdout + stderr) & set("\x1b\x07\u202e\udcff")
    status, stdout, stderr = command("reconstruct", photos / f"no{name}", tmp_path / "x", "--model", weights)
    assert status == 2 and not set(stdout + stderr) & set("\x1b\x07\u202e\udcff")
    logging.getLogger("manyview").warning("a log of %s", name)


def test_a_terminal_without_the_letters_shows_their_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    buffer = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(buffer, "latin-1"))
    say("π\x1b\na\tb")
    say_notes(["one\ntwo"])
    assert buffer.getvalue() == b"\\u03c0\\x1b\na\\tb\nnote: one\\ntwo\n"
