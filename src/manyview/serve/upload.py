"""A job as it comes in: multipart/form-data to files on the disk, within limits, nothing decoded."""

from __future__ import annotations

import os
import re
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import BinaryIO

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from ..errors import UsageError
from ..files.naming import IMAGE_SUFFIXES, counted, printable, suffix_of
from ..files.paths import file_names
from ..files.schema import parse_json
from ..files.writing import output_errors
from ..reconstruction.inputs.decode import ImageReadError, open_header
from ..reconstruction.inputs.file_type import is_image, read_head, video_container
from ..reconstruction.inputs.video import stored_size
from .folder import INPUT_NAME
from .job import StoredFile, Submission
from .limits import MOST_TEXT, Limits, TooLargeError

_LONGEST_NAME = 1024
_ESCAPED = {"%22": '"', "%0D": "\r", "%0A": "\n"}
_HEADERS = threading.Lock()  # one header at a time is read (see `open_header`)


class Upload:
    """The body of a request, written piece by piece below `stage`; `close` in any case.

    Its parts are `files`, named like the views, with sub-folders; `options` and `about`, JSON.
    """

    def __init__(self, stage: Path, content_type: str, limits: Limits) -> None:
        """Raises UsageError for a body that is no multipart/form-data."""
        kind, parameters = parse_options_header(content_type)
        if kind != b"multipart/form-data" or not parameters.get(b"boundary"):
            raise UsageError("a job is sent as multipart/form-data with parts files, options and about")
        self._stage, self._limits = stage, limits
        self._bytes = 0
        self._texts = {"options": b"{}", "about": b"{}"}
        self._names: list[str] = []
        self._videos = 0
        self._part = ""
        self._file: BinaryIO | None = None
        self._header: list[bytes] = [b"", b""]
        self._headers: dict[bytes, bytes] = {}
        self._whole = False
        self._parser = MultipartParser(
            parameters[b"boundary"],
            {
                "on_header_field": lambda data, start, end: self._add(0, data[start:end]),
                "on_header_value": lambda data, start, end: self._add(1, data[start:end]),
                "on_header_end": self._header_end,
                "on_headers_finished": self._part_begins,
                "on_part_data": lambda data, start, end: self._data(data[start:end]),
                "on_part_end": self._part_ends,
                "on_end": self._end,
            },
        )

    def write(self, piece: bytes) -> None:
        """Take the next piece of the body.

        Raises UsageError for a body that cannot be read or a file that cannot be used, TooLargeError for more
        than the limits allow, OutputError for a full disk.
        """
        self._bytes += len(piece)
        if self._bytes > self._limits.upload_bytes:
            raise TooLargeError(
                f"a job may bring {self._limits.max_upload_mib} MiB; send fewer or smaller images"
            )
        with output_errors(self._stage.parent, len(piece)):
            try:
                self._parser.write(piece)
            except FormParserError as error:
                raise UsageError(f"the body cannot be read as multipart/form-data ({error})") from error

    def close(self) -> None:
        if self._file is not None:
            self._file.close()

    def finish(self) -> tuple[bytes, Submission, list[StoredFile]]:
        """The options as they came, what is said beside them, and the files at their places.

        Raises UsageError for a body without files, cut off, or whose files do not belong together.
        """
        if not self._whole:
            raise UsageError("the body ends before its last boundary; send it again")
        try:
            asked = parse_json(self._texts["about"], Submission)
        except ValueError as error:
            raise UsageError(f"the part about cannot be used ({error})") from error
        named = [(name, self._numbered(place)) for place, name in enumerate(self._names)]
        return self._texts["options"], asked, placed(named, self.video, self._stage)

    @property
    def video(self) -> bool:
        """Whether the input is a video."""
        return self._videos > 0

    def _numbered(self, place: int) -> Path:
        return self._stage / f"{place}.part"

    def _add(self, which: int, data: bytes) -> None:
        self._header[which] += data

    def _header_end(self) -> None:
        name, value = self._header
        self._headers[name.lower()] = value
        self._header = [b"", b""]

    def _part_begins(self) -> None:
        _, parameters = parse_options_header(self._headers.get(b"content-disposition"))
        self._headers = {}
        self._part = parameters.get(b"name", b"").decode("utf-8", "replace")
        if self._part in self._texts:
            self._texts[self._part] = b""
        elif self._part == "files":
            check_count(len(self._names) + 1, self._limits)
            self._names.append(self._name(parameters.get(b"filename", b"")))
            self._file = self._numbered(len(self._names) - 1).open("xb")
        else:
            raise UsageError(
                f"the part {printable(self._part)[:80]!r} has no meaning; parts are files, options and about"
            )

    def _data(self, data: bytes) -> None:
        if self._file is not None:
            self._file.write(data)
            return
        self._texts[self._part] += data
        if len(self._texts[self._part]) > MOST_TEXT:
            raise TooLargeError(f"the part {self._part} is larger than {MOST_TEXT >> 20} MiB")

    def _part_ends(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None
            self._videos += check_file(self._numbered(len(self._names) - 1), self._names[-1], self._limits)

    def _end(self) -> None:
        self._whole = True

    def _name(self, given: bytes) -> str:
        """The name of a view, as forms write it. Raises UsageError for one that cannot be."""
        try:
            text = re.sub("%22|%0D|%0A", lambda found: _ESCAPED[found[0]], given.decode("utf-8"))
        except UnicodeDecodeError:
            raise UsageError("a file has a name that is not UTF-8; rename it") from None
        return view_name(text, self._names)


def view_name(text: str, others: Sequence[str]) -> str:
    """The name of a view from that of a file. Raises UsageError for one that cannot be, or is there."""
    parts = [part for part in text.split("/") if part not in ("", ".")]
    name = "/".join(parts)
    if not parts or ".." in parts or "\0" in name or len(name.encode()) > _LONGEST_NAME:
        raise UsageError(f"{printable(text)[:80]!r} is no name of a file to be sent; rename it")
    if name in others:
        raise UsageError(f"two files are called {printable(name)[:80]!r}; rename one")
    return name


def check_count(files: int, limits: Limits) -> None:
    """Raise TooLargeError for more files than a job may have."""
    if files > limits.max_images:
        raise TooLargeError(f"a job may have {counted(limits.max_images, 'image')}; send fewer of them")


def check_file(path: Path, name: str, limits: Limits) -> bool:
    """Whether a file is a video; what it is, and its size in pixels, are read from its header alone.

    Raises UsageError for what is neither image nor video, TooLargeError for too many pixels.
    """
    head = read_head(path)
    size, video = None, video_container(head) is not None
    if video:
        size = stored_size(path)
    elif suffix_of(name) in IMAGE_SUFFIXES or is_image(head):
        try:
            with _HEADERS, open_header(path) as image:
                size = image.size
        except ImageReadError:  # said when it is read, as by the command
            return False
    else:
        raise UsageError(
            f"{printable(name)[:80]!r} is neither an image nor a video that can be sent (MP4, QuickTime, "
            "Matroska, WebM, AVI); leave it out"
        )
    if size is not None and size[0] * size[1] > limits.max_pixels:
        raise TooLargeError(
            f"{printable(name)[:80]!r} has {size[0]}x{size[1]} pixels, and an image may have "
            f"{limits.max_pixels:,}; make it smaller"
        )
    return video


def check_together(files: int, video: bool) -> None:
    """Raise UsageError for files that are no job: none, or a video that is not alone."""
    if not files:
        raise UsageError("the job has no files; send images, or one video, as parts called files")
    if video and files > 1:
        raise UsageError("there is a video among the files; send a video alone")


def placed(
    named: Sequence[tuple[str, Path]],
    video: bool,
    stage: Path,
    move: Callable[[Path, Path], object] = os.rename,
) -> list[StoredFile]:
    """Files at their places in the input of a job, moved there from the folder of its upload.

    Raises UsageError as `check_together`, OutputError for a full disk.
    """
    check_together(len(named), video)
    found = []
    for (name, source), safe in zip(named, file_names([name for name, _ in named]), strict=True):
        target = stage / INPUT_NAME / safe
        with output_errors(target, 0):
            target.parent.mkdir(parents=True, exist_ok=True)
            move(source, target)
            found.append(StoredFile(name, safe, target.stat().st_size))
    return found
