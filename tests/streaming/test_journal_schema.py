"""A journal that was edited, cut or replaced: every file of it is checked, and the error names it."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, safe_open, save_file

from manyview.errors import DamagedInputError, ManyViewError, UsageError
from manyview.reconstruction.inputs.views import ViewRecord
from manyview.streaming.engine import StreamUpdate
from manyview.streaming.frames import Frame
from manyview.streaming.journal import StreamJournal

from ..analytic_scene import fit_transform

SETTINGS = {"chunk": 2}


def write_journal(folder: Path) -> Path:
    """Two chunks of two frames."""
    journal = StreamJournal(folder, SETTINGS)
    journal.start()
    transform = fit_transform((32, 24), (16, 12))
    for first in (0, 2):
        frames = [
            Frame(
                torch.zeros(3, 12, 16, dtype=torch.uint8),
                ViewRecord(f"{first + i}.png", "x", transform),
                "0" * 64,
            )
            for i in range(2)
        ]
        update = StreamUpdate(
            first=first,
            cam_from_world=torch.eye(4)[:3].repeat(2, 1, 1),
            intrinsics=torch.eye(3).repeat(2, 1, 1),
            z_depth=torch.ones(2, 12, 16),
            depth_conf=torch.ones(2, 12, 16),
            seconds=0.1,
            memory_bytes=1,
        )
        journal.add(update, frames, lambda: {"x": torch.zeros(1)})
    return journal.folder


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_journal(tmp_path / "stream")


def read_all(folder: Path) -> tuple[Any, ...]:
    journal = StreamJournal(folder, SETTINGS)
    state = journal.resume()
    return journal.log(), list(journal.parts()), state


def edit_metadata(path: Path, **changes: str) -> None:
    with safe_open(path, framework="pt") as file:
        metadata = file.metadata()
    save_file(load_file(path), path, {**metadata, **changes})


def test_an_untouched_journal_is_read(folder: Path) -> None:
    log, parts, state = read_all(folder)
    assert [line["frames"] for line in log] == [2, 2] and [part[0] for part in parts] == [0, 2]
    assert [record.name for _, _, records in parts for record in records] == [f"{i}.png" for i in range(4)]
    assert set(state) == {"x"}


@pytest.mark.parametrize("records", ["", "{", "[]", "[1]", "[" * 10_000, '[{"name": "a", "source": "b"}]'])
@pytest.mark.parametrize("chunk", [0, 1])
def test_edited_records_of_a_chunk_are_refused(folder: Path, chunk: int, records: str) -> None:
    path = folder / f"chunk-{chunk:06d}.safetensors"
    edit_metadata(path, records=records)
    with pytest.raises(DamagedInputError, match=path.name):
        read_all(folder)


@pytest.mark.parametrize("first", ["1", "-2", "x", "9" * 5000])
def test_a_chunk_of_other_frames_is_refused(folder: Path, first: str) -> None:
    edit_metadata(folder / "chunk-000001.safetensors", first=first)
    with pytest.raises(DamagedInputError, match="chunk-000001"):
        read_all(folder)


def test_arrays_of_another_shape_or_without_metadata_are_refused(folder: Path) -> None:
    path = folder / "chunk-000000.safetensors"
    tensors = load_file(path)
    with safe_open(path, framework="pt") as file:
        metadata = file.metadata()
    save_file({**tensors, "z_depth": tensors["z_depth"][:, :1].clone()}, path, metadata)
    with pytest.raises(DamagedInputError, match=path.name):
        read_all(folder)
    save_file(tensors, path)
    with pytest.raises(DamagedInputError, match=path.name):
        read_all(folder)


@pytest.mark.parametrize("chunks", ["0", "-1", "7", "x", "1e3"])
def test_a_state_of_other_chunks_is_refused(folder: Path, chunks: str) -> None:
    edit_metadata(folder / "state.safetensors", chunks=chunks)
    with pytest.raises(DamagedInputError):
        read_all(folder)


@pytest.mark.parametrize(
    "line", ["", "{}", "[1]", "[" * 10_000, "\xff", '{"chunk": 0, "first": 0, "frames": 1e400}']
)
def test_an_edited_log_is_refused(folder: Path, line: str) -> None:
    lines = (folder / "log.jsonl").read_text().splitlines()
    (folder / "log.jsonl").write_bytes(f"{line}\n{lines[1]}\n".encode("latin-1"))
    with pytest.raises(DamagedInputError, match="log"):
        read_all(folder)


def test_a_log_with_a_gap_is_refused(folder: Path) -> None:
    lines = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    lines[0]["frames"] = 10**15
    (folder / "log.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    with pytest.raises(DamagedInputError, match="log"):
        read_all(folder)


@pytest.mark.parametrize("changes", [{"settings": 5}, {"settings": None}, {"finished": "no"}])
def test_an_edited_header_is_refused(folder: Path, changes: dict[str, Any]) -> None:
    header = json.loads((folder / "stream.json").read_text())
    (folder / "stream.json").write_text(json.dumps(header | changes))
    with pytest.raises(DamagedInputError, match="stream"):
        read_all(folder)


@pytest.mark.parametrize("text", ["[" * 10_000, "\xff", "[]", "NaN"])
def test_a_header_that_is_none_is_no_stream(folder: Path, text: str) -> None:
    (folder / "stream.json").write_bytes(text.encode("latin-1"))
    with pytest.raises(UsageError, match="stream"):
        read_all(folder)


@pytest.mark.parametrize(
    "name", ["stream.json", "log.jsonl", "state.safetensors", "chunk-000001.safetensors"]
)
def test_a_fifo_does_not_block(folder: Path, name: str) -> None:
    (folder / name).unlink()
    os.mkfifo(folder / name)
    with pytest.raises(ManyViewError):
        read_all(folder)
