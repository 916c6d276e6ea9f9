"""Paths out of files stay inside their folder; names of written files are inside, distinct and stable."""

from __future__ import annotations

import os
import re
import unicodedata
from pathlib import Path, PureWindowsPath

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from manyview.errors import InputError
from manyview.files.paths import file_names, resolve_inside

# Any text, and the pieces that names have gone wrong with.
_ODD = (
    "/| |.|..|\\|~|C:|1:|con|NUL|lpt1|.jpg|\x1b[2J|\n|\udcff|é|e\u0301|ß|SS|ﬁ|\u200b|\u202e|\u3000|a|A|_|_2"
)
_PIECES = st.sampled_from([*_ODD.split("|"), "x" * 300])
_NAMES = st.lists(st.one_of(_PIECES, st.text(max_size=4)), max_size=6).map("".join)
_DEVICE = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(\.|$)", re.IGNORECASE)
_PLAIN = st.from_regex(r"[a-z0-9][a-z0-9_.-]{0,8}[0-9](/[a-z0-9]{1,8}[0-9]){0,2}", fullmatch=True)


def test_a_name_inside_is_found(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    assert resolve_inside(tmp_path, "a/b.jpg", "list.txt") == tmp_path / "a" / "b.jpg"
    assert resolve_inside(tmp_path, "./1:30 x.jpg", "list.txt").parent == tmp_path


@pytest.mark.parametrize(
    "name", ["", ".", "..", "../x", "a/../../x", "/etc/passwd", "a\0b", "out/x", "loop/../../x", "\ud800"]
)
def test_a_name_that_leads_out_is_refused_and_its_file_named(tmp_path: Path, name: str) -> None:
    folder = tmp_path / "set"
    folder.mkdir()
    (folder / "out").symlink_to(tmp_path)
    with pytest.raises(InputError) as caught:
        resolve_inside(folder, name, folder / "list.txt")
    assert "list.txt" in str(caught.value)


def test_links_count_by_where_they_lead(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = tmp_path / "real"
    (real / "deep").mkdir(parents=True)
    (tmp_path / "set").symlink_to(real)
    (real / "inner").symlink_to(real / "deep")
    (real / "outer").symlink_to(tmp_path)
    assert resolve_inside(tmp_path / "set", "inner/x", "index") == tmp_path / "set" / "inner" / "x"
    assert resolve_inside(real, "outer/x", "index", links_may_leave=True) == real / "outer" / "x"
    monkeypatch.chdir(real)
    assert resolve_inside(".", "deep/x", "index") == Path("deep/x")
    for wrong in ("../x", "../../x", "outer/x"):
        with pytest.raises(InputError):
            resolve_inside(".", wrong, "index")


@given(name=_NAMES)
def test_whatever_is_resolved_lies_inside(name: str) -> None:
    try:
        path = resolve_inside("/nowhere/set", name, "list.txt")
    except InputError:
        return
    assert os.path.realpath(path).startswith("/nowhere/set/")


@given(st.lists(_NAMES, max_size=6), st.sampled_from([None, ".png"]))
@example([" /elsewhere/x.jpg", "/elsewhere/x.jpg", "_/elsewhere/x.jpg"], None)
@example(["a.png", "a.png/1", "a.png/1/2", "A.png"], ".png")
def test_file_names_are_inside_distinct_and_stable(names: list[str], suffix: str | None) -> None:
    written = file_names(names, None if suffix is None else [suffix] * len(names))
    assert len(written) == len(names)
    taken = [unicodedata.normalize("NFC", name).casefold() for name in written]
    assert len(set(taken)) == len(taken)
    for name in written:
        assert resolve_inside("/nowhere/out", name, "x") == Path("/nowhere/out", name)
        assert name.encode() and name == "".join(name.split()) and not re.search(r"[\x00-\x1f\\:*?]", name)
        windows = PureWindowsPath(name)
        assert not windows.is_absolute() and not windows.drive and ".." not in windows.parts
        for part in windows.parts:
            assert not part.endswith(".") and not _DEVICE.match(part)
        assert all(len(part.encode()) <= 255 for part in name.split("/"))
        assert suffix is None or name.lower().endswith(suffix)
        folders = [name[: at.start()] for at in re.finditer("/", name)]
        assert not set(folders) & set(written)
    assert file_names(written) == written


@given(st.lists(_PLAIN, max_size=6, unique=True))
def test_plain_names_stay_what_they_are(names: list[str]) -> None:
    folders = {name[: at.start()] for name in names for at in re.finditer("/", name)}
    names = [name for name in names if name not in folders and not any(map(_DEVICE.match, name.split("/")))]
    assert file_names(names) == names


def test_a_view_keeps_its_own_name_and_others_get_numbers() -> None:
    assert file_names(["a b.jpg", "a_b.jpg", "A_B.jpg", "a?b.jpg"]) == [
        "a_b_3.jpg",
        "a_b.jpg",
        "A_B_2.jpg",
        "a_b_4.jpg",
    ]
    assert file_names(["1:30.jpg", "back\\slash.jpg", " /x.jpg", "sub/nul.txt", "é.jpg"]) == [
        "1_30.jpg",
        "back_slash.jpg",
        "_/x.jpg",
        "sub/_nul.txt",
        "é.jpg",
    ]


def test_a_name_too_long_for_a_file_system_is_cut(tmp_path: Path) -> None:
    names = [
        "é" * 200 + ".jpg",
        "é" * 201 + ".jpg",
        "folder7/" * 300 + "x.jpg",
    ]
    written = file_names(names)
    assert len(set(written)) == 3
    for name in written:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"")
        assert path.suffix == ".jpg"
