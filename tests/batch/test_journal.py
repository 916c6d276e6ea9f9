"""The journal of a batch and its record: torn lines, many runners, other options."""

from __future__ import annotations

from pathlib import Path

import pytest

from manyview.batch.folder import BATCH_NAME, check_batch_folder, open_batch
from manyview.batch.journal import Entry, Journal
from manyview.errors import DamagedInputError, OutputError


def test_lines_of_all_runners_are_read_together(tmp_path: Path) -> None:
    a, b = Journal(tmp_path, "host-1-a"), Journal(tmp_path, "host/../2-b")
    a.write(Entry("x", "begun", 1.0, attempt=1))
    a.write(Entry("x", "failed", 2.0, sentence="no", exit_code=1))
    b.write(Entry("y", "done", 3.0, views=4, peak_bytes=5, seconds=0.5))
    assert len(list(tmp_path.iterdir())) == 2
    for reader in (a, b, Journal(tmp_path, "")):
        states = reader.read()
        assert states["x"].failed.sentence == "no" and states["x"].failures == 1 and states["x"].done is None
        assert states["y"].done.views == 4
    b.write(Entry("x", "done", 4.0))
    assert a.read()["x"].done is not None and a.read()["x"].failures == 1
    assert not (tmp_path / "").joinpath(".jsonl").exists()


def test_a_line_counts_when_it_is_whole(tmp_path: Path) -> None:
    reader = Journal(tmp_path, "reader")
    whole = b'{"scene":"x","state":"done","time":1.0}\n'
    for end in range(len(whole)):
        (tmp_path / "other.jsonl").write_bytes(whole[:end])
        assert not reader.read()
    (tmp_path / "other.jsonl").write_bytes(whole)
    assert reader.read()["x"].done is not None


@pytest.mark.parametrize(
    "damage", [b"\n", b"null\n", b"\xff\xfe\n", b'{"scene":"x","state":"done","time":-1}\n']
)
def test_damaged_lines_hide_no_others(tmp_path: Path, damage: bytes) -> None:
    good = b'{"scene":"y","state":"failed","time":1.0,"sentence":"s","later_release":1}\n'
    (tmp_path / "other.jsonl").write_bytes(damage + good)
    (tmp_path / "folder.jsonl").mkdir()
    states = Journal(tmp_path, "reader").read()
    assert list(states) == ["y"] and states["y"].failures == 1


def test_runners_of_one_batch_have_the_same_options(tmp_path: Path) -> None:
    out = tmp_path / "new" / "out"
    hidden = open_batch(out, {"accel": "flash", "to": ["ply"]})
    assert hidden == out / BATCH_NAME and check_batch_folder(out, resume=True)
    (out / "kitchen").mkdir()
    assert open_batch(out, {"accel": "flash", "to": ["ply"]}) == hidden
    for other in ({"accel": "dense", "to": ["ply"]}, {"to": ["ply"]}):
        with pytest.raises(OutputError, match="--accel flash"):
            open_batch(out, other)
    with pytest.raises(OutputError, match="--image-size"):
        open_batch(out, {"accel": "flash", "to": ["ply"], "image_size": 28})


def test_folders_that_hold_no_batch(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="--resume"):
        check_batch_folder(tmp_path / "nowhere", resume=True)
    assert not (tmp_path / "nowhere").exists()
    (tmp_path / "mine.txt").touch()
    with pytest.raises(OutputError, match=r"mine\.txt"):
        open_batch(tmp_path, {})
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]
    with pytest.raises(OutputError):
        check_batch_folder(tmp_path / "mine.txt" / "out")


@pytest.mark.parametrize(
    "content", [b"{", b"[]", b'{"format": "another", "format_version": 1, "options": {}}']
)
def test_a_record_that_is_damaged_is_named(tmp_path: Path, content: bytes) -> None:
    record = open_batch(tmp_path / "out", {}) / "batch.json"
    record.write_bytes(content)
    with pytest.raises((DamagedInputError, OutputError), match=r"batch\.json"):
        open_batch(tmp_path / "out", {})
