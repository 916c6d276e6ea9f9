"""The kind of a weights file, from its first bytes and never from its name."""

from __future__ import annotations

import enum
import struct
from pathlib import Path

import msgspec

from ...errors import WeightsError
from ...files.schema import Natural, check_regular, convert, open_regular, parse_json

_HEAD = 512
_ZIP = b"PK\x03\x04"
_PICKLE = b"\x80"
_LFS = b"version https://git-lfs"
_MAX_HEADER = 100 * 1024 * 1024  # the limit of the safetensors format


class Format(enum.Enum):
    """The three containers of weights that can be read."""

    SAFETENSORS = "safetensors"
    TORCH_ZIP = "PyTorch"
    TORCH_PICKLE = "PyTorch before 1.6"


class _Entry(msgspec.Struct):
    """A tensor in the header of a safetensors file."""

    data_offsets: tuple[Natural, Natural]


def detect_format(path: Path) -> Format:
    """The container of a weights file; WeightsError says what the file is instead."""
    try:
        size = check_regular(path)
        with open_regular(path) as file:
            head = file.read(_HEAD)
    except OSError as error:
        raise WeightsError(f"{path} cannot be read: {error.strerror or error}") from error
    if not head:
        raise WeightsError(f"{path} is empty: download or copy the weights again")
    start = head.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if start.startswith((b"<!doctype", b"<html", b"<?xml", b"<head")):
        raise WeightsError(
            f"{path} is a web page, not weights: download the file itself "
            "(on a hub page, by its download link)"
        )
    if head.startswith(_LFS):
        raise WeightsError(
            f"{path} is a git-lfs pointer of {size} bytes, not the weights: fetch them with 'git lfs pull'"
        )
    if head.startswith(_ZIP):
        return Format.TORCH_ZIP
    # Before the pickle: the first byte of a header's length may well be the one that begins a pickle.
    if head[8:9] == b"{" and struct.unpack("<Q", head[:8])[0] <= _MAX_HEADER:
        _check_safetensors(path, size)
        return Format.SAFETENSORS
    if head.startswith(_PICKLE):
        return Format.TORCH_PICKLE
    if _is_text(head):
        raise WeightsError(f"{path} holds text, not weights: expected a .safetensors or a .pt file")
    if path.suffix == ".safetensors" or size < 16:
        raise WeightsError(
            f"{path} is truncated or damaged ({size} bytes): download or copy the weights again"
        )
    raise WeightsError(f"{path} is not a checkpoint: expected a .safetensors or a .pt file")


def _is_text(head: bytes) -> bool:
    try:  # the last letter may be cut
        text = head[:-4].decode("utf-8") if len(head) == _HEAD else head.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return all(letter.isprintable() or letter in "\n\r\t" for letter in text)


def _check_safetensors(path: Path, size: int) -> None:
    """Compare the size the header promises with the size of the file, to tell a broken download apart."""
    damaged = f"{path} is truncated or damaged"
    with path.open("rb") as file:
        (length,) = struct.unpack("<Q", file.read(8))
        if length > size - 8:
            raise WeightsError(
                f"{damaged}: its header needs {length} bytes and the file has {size}; "
                "download or copy the weights again"
            )
        try:
            header = parse_json(file.read(length), dict)
            header.pop("__metadata__", None)
            entries = convert(header, dict[str, _Entry]).values()
        except ValueError as error:
            raise WeightsError(f"{damaged}: its header cannot be read ({error})") from error
    end = max((entry.data_offsets[1] for entry in entries), default=0)
    if 8 + length + end > size:
        raise WeightsError(
            f"{damaged}: it has {size} of {8 + length + end} bytes; download or copy the weights again"
        )
