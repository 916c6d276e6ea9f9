"""The journal of a stream, from which a killed run resumes.

A folder: `stream.json` holds the settings, `chunk-000012.safetensors` the result of a chunk,
`state.safetensors` the engine's state after the chunk it names, `log.jsonl` one line per chunk. Chunks newer
than the state are computed again, with the same result.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from ..errors import DamagedInputError, OutputError, UsageError
from ..files.schema import (
    Count,
    Duration,
    Natural,
    check_regular,
    convert,
    parse_json,
    read_regular,
    schema_errors,
)
from ..files.transaction import output_path, recover
from ..files.writing import atomic_file, created_folder, entries, output_errors
from ..reconstruction.inputs.views import StoredView, ViewRecord
from ..reconstruction.result.arrays import array_shapes
from .engine import StreamUpdate
from .frames import Frame

FORMAT = "manyview stream"
FORMAT_VERSION = 1
HEADER_NAME, STATE_NAME, LOG_NAME = "stream.json", "state.safetensors", "log.jsonl"

_ARRAYS = ("images", "cam_from_world", "intrinsics", "z_depth", "depth_conf")
_REMEDY = "start the stream again"


class _Header(msgspec.Struct):
    """`stream.json`."""

    settings: dict[str, Any]
    finished: bool = False
    keep_chunks: bool = True


class _LogLine(msgspec.Struct):
    """What is used of a line of `log.jsonl`."""

    chunk: Natural
    first: Natural
    frames: Count
    seconds: Duration
    ms_per_frame: Duration
    memory_bytes: Natural
    resident_bytes: Natural = 0


class StreamJournal:
    """The folder of one stream: `start` or `resume`, then `add` each chunk."""

    def __init__(self, folder: Path, settings: dict[str, Any], state_every: int = 1) -> None:
        self.folder, self.settings, self._every = folder, settings, state_every
        self.chunks = 0
        self.finished = self._keep_chunks = False
        self.last: ViewRecord | None = None

    @property
    def canvas(self) -> tuple[int, int] | None:
        """(height, width) of the network images; None before the first chunk."""
        return None if self.last is None else self.last.transform.network_size

    @classmethod
    def is_one(cls, folder: Path) -> bool:
        """Whether `folder` holds a journal written by this package."""
        return _read_header(folder) is not None

    def start(self) -> None:
        """Start a new journal; an earlier one in the folder is removed."""
        self._check_ours()
        with output_errors(self.folder, 0), created_folder(self.folder):
            recover(self.folder)
            # Without a state nothing of the earlier stream is resumed, wherever we are killed here.
            (self.folder / STATE_NAME).unlink(missing_ok=True)
            self._write_header()
            self._discard_newer()

    def resume(self) -> dict[str, Tensor] | None:
        """The engine's state after `chunks` chunks, or None if no chunk was finished.

        Raises UsageError if the settings differ from those of the earlier run, DamagedInputError for files
        that are missing or damaged.
        """
        header = _read_header(self.folder)
        if header is None:
            raise UsageError(f"{self.folder}: holds no stream to resume")
        changed = [name for name, value in self.settings.items() if header.settings.get(name) != value]
        if changed:
            before, now = header.settings.get(changed[0]), self.settings[changed[0]]
            raise UsageError(
                f"{self.folder}: that stream ran with another {changed[0].replace('_', ' ')} "
                f"({before}, not {now}); give the same to resume"
            )
        recover(self.folder)
        self.finished, self._keep_chunks = header.finished, header.keep_chunks
        if self.finished:
            self._remove_finished()  # killed before that was done
        state = None
        path = self.folder / STATE_NAME
        if path.exists():
            with _opened(path, "pt") as file:
                self.chunks = int(file.metadata()["chunks"])
                state = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            with _opened(self._chunk_path(self.chunks - 1)) as file:
                self.last = _stored_views(file)[-1]
        if not self.finished:
            self._discard_newer()
        return state

    def add(
        self, update: StreamUpdate, frames: Sequence[Frame], state: Callable[[], dict[str, Tensor]]
    ) -> None:
        """Write a chunk's result, its log line, and every `state_every` chunks `state()` of the engine."""
        images = torch.stack([frame.image for frame in frames]).permute(0, 2, 3, 1).contiguous()
        arrays = {name: getattr(update, name) for name in _ARRAYS if name != "images"} | {"images": images}
        metadata = {
            "records": json.dumps([frame.record.to_json() for frame in frames]),
            "sha256": json.dumps([frame.sha256 for frame in frames]),
            "first": str(update.first),
        }
        self._write_tensors(self._chunk_path(self.chunks), arrays, metadata)
        line = {
            "chunk": self.chunks,
            "first": update.first,
            "frames": len(update),
            "seconds": round(update.seconds, 6),
            "ms_per_frame": round(1000 * update.seconds / len(update), 3),
            "memory_bytes": update.memory_bytes,
            **_resident_bytes(),
        }
        with (self.folder / LOG_NAME).open("a", encoding="utf-8") as log:
            log.write(json.dumps(line) + "\n")
        self.chunks += 1
        self.last = frames[-1].record
        if self.chunks % self._every == 0:
            self.save_state(state())

    def save_state(self, state: dict[str, Tensor]) -> None:
        """Write the engine's state."""
        self._write_tensors(self.folder / STATE_NAME, state, {"chunks": str(self.chunks)})

    def sources(self) -> list[tuple[str, str]]:
        """Name of every frame so far, and SHA-256 of the file that it was read from."""
        found: list[tuple[str, str]] = []
        for chunk in range(self.chunks):
            with _opened(self._chunk_path(chunk)) as file:
                digests = parse_json(file.metadata()["sha256"], list[str])
                found += zip((view.name for view in _stored_views(file)), digests, strict=True)
        return found

    def log(self) -> list[dict[str, Any]]:
        """The lines of the log, one per chunk."""
        path = self.folder / LOG_NAME
        if not path.exists():
            return []
        with damaged_input_errors(path):
            lines = [parse_json(line, dict) for line in read_regular(path).splitlines()]
            frames = 0
            for index, line in enumerate(convert(lines, list[_LogLine])):
                if (line.chunk, line.first) != (index, frames):
                    raise ValueError(f"line {index + 1} does not follow the one before")
                frames += line.frames
        return lines

    def parts(self) -> Iterator[tuple[int, dict[str, np.ndarray], list[ViewRecord]]]:
        """First frame, arrays (named as in `Reconstruction`) and records of each chunk."""
        frames = 0
        for chunk in range(self.chunks):
            with _opened(self._chunk_path(chunk)) as file:
                arrays = {name: file.get_tensor(name) for name in _ARRAYS}
                records = _stored_views(file)
                shapes = array_shapes(len(records), *(self.canvas or (0, 0)))
                if int(file.metadata()["first"]) != frames or any(
                    arrays[name].shape != shapes[name][1] for name in _ARRAYS
                ):
                    raise ValueError("the arrays are not those of its frames")
            yield frames, arrays, records
            frames += len(records)

    def finish(self, keep_chunks: bool = False) -> None:
        """Mark the stream as finished and remove its chunks and state."""
        self.finished, self._keep_chunks = True, keep_chunks
        self._write_header()
        self._remove_finished()

    def discard(self) -> None:
        """Remove the journal, of which no chunk is of use."""
        for path in (
            *self._chunk_files(),
            *(self.folder / name for name in (STATE_NAME, LOG_NAME, HEADER_NAME)),
        ):
            path.unlink(missing_ok=True)
        with contextlib.suppress(OSError):  # it holds something else
            self.folder.rmdir()

    def _remove_finished(self) -> None:
        if not self._keep_chunks:
            for path in (*self._chunk_files(), self.folder / STATE_NAME):
                path.unlink(missing_ok=True)

    def _write_header(self) -> None:
        header: dict[str, Any] = {"format": FORMAT, "format_version": FORMAT_VERSION}
        header |= {"finished": self.finished, "keep_chunks": self._keep_chunks, "settings": self.settings}
        with atomic_file(self.folder / HEADER_NAME) as part:
            part.write_text(json.dumps(header, indent=1), encoding="utf-8")

    def _write_tensors(self, path: Path, tensors: dict[str, Tensor], metadata: dict[str, str]) -> None:
        # Cloned, because tensors of a file may not share memory.
        plain = {key: tensor.detach().cpu().contiguous().clone() for key, tensor in tensors.items()}
        needed = sum(tensor.nbytes for tensor in plain.values())
        with output_errors(path, needed), atomic_file(path) as part, part.open("wb") as file:
            file.write(save(plain, metadata={"format": FORMAT, **metadata}))
            file.flush()
            os.fsync(file.fileno())

    def _discard_newer(self) -> None:
        """Remove chunks that the state does not include."""
        for path in self._chunk_files():
            if path >= self._chunk_path(self.chunks):
                path.unlink()
        path = self.folder / LOG_NAME
        if not self.chunks:
            path.unlink(missing_ok=True)
        elif path.exists():
            with damaged_input_errors(path):
                lines = read_regular(path).splitlines(keepends=True)
            with atomic_file(path) as part:
                part.write_bytes(b"".join(lines[: self.chunks]))

    def _chunk_path(self, chunk: int) -> Path:
        return self.folder / f"chunk-{chunk:06d}.safetensors"

    def _chunk_files(self) -> list[Path]:
        return sorted(self.folder.glob("chunk-*.safetensors"))

    def _check_ours(self) -> None:
        if not self.folder.is_dir():
            return
        output_path(self.folder.parent, f"{self.folder.name}/{LOG_NAME}")  # no link leads elsewhere
        if entries(self.folder) and not self.is_one(self.folder):
            raise OutputError(f"{self.folder}: is in the way and was not written by ManyView; move it away")


def _read_header(folder: Path) -> _Header | None:
    """None for a folder without a header of ours."""
    path = folder / HEADER_NAME
    try:
        header = parse_json(read_regular(path), dict)
    except (OSError, ValueError):
        return None
    if header.get("format") != FORMAT or header.get("format_version") != FORMAT_VERSION:
        return None
    with schema_errors(str(path), _REMEDY):
        return convert(header, _Header)


def _stored_views(file: safe_open) -> list[ViewRecord]:
    views = parse_json(file.metadata()["records"], list[StoredView])
    if not views:
        raise ValueError("it has no frame")
    return [view.record() for view in views]


def _resident_bytes() -> dict[str, int]:
    """Resident memory of the process, where the system reports it."""
    with contextlib.suppress(OSError, ValueError, IndexError):
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        return {"resident_bytes": pages * os.sysconf("SC_PAGE_SIZE")}
    return {}


@contextlib.contextmanager
def _opened(path: Path, framework: str = "numpy") -> Iterator[safe_open]:
    with damaged_input_errors(path):
        check_regular(path)
        with safe_open(path, framework=framework) as file:
            yield file


@contextlib.contextmanager
def damaged_input_errors(path: Path) -> Iterator[None]:
    """What reading a file of a journal may raise, as one sentence."""
    try:
        yield
    except (SafetensorError, OSError, LookupError, TypeError, ValueError, RuntimeError) as error:
        why = getattr(error, "strerror", None) or " ".join(str(error).split())
        raise DamagedInputError(f"{path}: is missing or damaged ({why}); {_REMEDY}") from error
