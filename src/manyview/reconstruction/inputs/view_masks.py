"""The masks of all views of a run: which file is whose, and what they hide at the network's pixels."""

from __future__ import annotations

import dataclasses
import hashlib
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, UInt8

from ...errors import DamagedInputError, InputError, UsageError
from ...files.naming import IMAGE_SUFFIXES, counted, enumerated, suffix_of, suggestion
from ...files.paths import path_as_text, user_path
from .decode import ImageReadError
from .folder import list_folder
from .masks import network_mask, read_mask
from .views import ViewRecord

Masks = str | os.PathLike[str] | Sequence[Any] | np.ndarray
"""A folder, or one `InMemoryMask` a view in their order, None for a view without one."""


@dataclasses.dataclass(frozen=True, eq=False)
class ViewMasks:
    """What masks hide.

    Attributes:
        records: The views, with their masks.
        packed: Hidden network pixels, eight in a byte along the width.
        width: Of the network images.
        notes: What the user should know.
    """

    records: tuple[ViewRecord, ...]
    packed: UInt8[np.ndarray, "views height eighths"]
    width: int
    notes: tuple[str, ...]

    def hidden(self, rows: Sequence[int] | slice = slice(None)) -> Bool[np.ndarray, "n height width"]:
        """True where a mask hides a network pixel of these views."""
        return np.unpackbits(self.packed[rows], axis=-1, count=self.width).astype(bool)

    def hidden_patches(self, patch_size: int, rows: slice = slice(None)) -> Bool[np.ndarray, "n patches"]:
        """True for patches of these views of which a mask hides all that shows the image, row by row."""
        hidden = self.hidden(rows)
        shown = ~hidden
        for seen, record in zip(shown, self.records[rows], strict=True):
            seen &= record.transform.content_mask()
        views, height, width = hidden.shape
        cells = (views, height // patch_size, patch_size, width // patch_size, patch_size)
        some, visible = (mask.reshape(cells).any(axis=(2, 4)) for mask in (hidden, shown))
        return (some & ~visible).reshape(views, -1)

    @property
    def facts(self) -> dict[str, Any]:
        """What decides the numbers of a result, as JSON types."""
        views = sum(record.mask is not None for record in self.records)
        return {"views": views, "sha256": hashlib.sha256(self.packed.tobytes()).hexdigest()}


def check_masks(masks: Masks | None) -> None:
    """InputError for a folder that is not there."""
    if isinstance(masks, str | os.PathLike):
        folder = user_path(masks)
        if not folder.is_dir():
            raise InputError(f"'{masks}' is no folder{suggestion(folder)}; give a folder of masks")


def read_view_masks(
    masks: Masks,
    records: Sequence[ViewRecord],
    strict: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> ViewMasks:
    """The masks of these views.

    Args:
        masks: A folder with masks called like the views, sub-folders included: `NAME.jpg.png` (as COLMAP
            calls them) or the name with any image suffix; or one mask a view.
        records: The views, with the transforms of the network images.
        strict: Raise where a view has no mask, or one that cannot be read; else it is kept whole, with a
            note.
        progress: Called with (done, total).

    Raises:
        InputError: No mask belongs to any view, two belong to one, or one has another aspect ratio than its
            view; with `strict`, a view has none.
        DamagedInputError: With `strict`, a mask that cannot be read.
        UsageError: Another number of masks than of views, or an array that is no mask.
    """
    check_masks(masks)
    if isinstance(masks, str | os.PathLike):
        records = _with_files(user_path(masks), records)
    else:
        if len(masks) != len(records):
            raise UsageError(
                f"there are {counted(len(masks), 'mask')} for {counted(len(records), 'view')}: give one a "
                "view in their order, None for a view without one"
            )
        pairs = zip(records, masks, strict=True)
        records = [r if m is None else dataclasses.replace(r, mask="", mask_image=m) for r, m in pairs]
    lacking = [record.name for record in records if record.mask is None]
    if strict and lacking:
        raise InputError(f"view {lacking[0]!r} has no mask; add it, or leave strict reading off")
    height, width = records[0].transform.network_size
    packed = np.zeros((len(records), height, (width + 7) // 8), dtype=np.uint8)
    found: list[ViewRecord] = []
    damaged: list[str] = []
    from .decode_pool import decoding_threads  # imports PyTorch, which results are read without

    with ThreadPoolExecutor(decoding_threads(), thread_name_prefix="manyview-masks") as pool:
        for record, read in zip(records, pool.map(_packed, records), strict=True):
            if isinstance(read, ImageReadError):
                if strict:
                    raise DamagedInputError(f"{_named(record)} {read}")
                damaged.append(f"{_named(record)} {read}")
                record = dataclasses.replace(record, mask=None, mask_image=None)
            elif read is not None:
                packed[len(found)] = read
            found.append(record)
            if progress is not None:
                progress(len(found), len(records))
    if damaged and not any(record.mask is not None for record in found):
        raise DamagedInputError(f"no mask can be read: {damaged[0]}")
    return ViewMasks(tuple(found), packed, width, _notes(found, packed, width, lacking, damaged))


def _packed(record: ViewRecord) -> UInt8[np.ndarray, "height eighths"] | ImageReadError | None:
    try:
        kept = read_mask(record)
    except ImageReadError as error:
        return error
    return None if kept is None else np.packbits(network_mask(kept, record.transform), axis=-1)


def _named(record: ViewRecord) -> str:
    return record.mask or f"the mask of view {record.name!r}"


def _with_files(folder: Path, records: Sequence[ViewRecord]) -> list[ViewRecord]:
    """The views with the paths of their masks."""
    listed = list_folder(folder).images
    by_name: dict[str, list[str]] = {}
    for name in listed:
        by_name.setdefault(_without_suffix(name), []).append(name)
    found = []
    for record in records:
        names = by_name.get(record.name) or by_name.get(_without_suffix(record.name)) or []
        if len(names) > 1:
            raise InputError(f"view {record.name!r} has several masks in '{folder}': {enumerated(names)}")
        for name in names:
            path = folder / name
            if record.source and path.exists() and os.path.realpath(path) == os.path.realpath(record.source):
                raise InputError(
                    f"'{path}' is the image of view {record.name!r} itself; give a folder of masks"
                )
            record = dataclasses.replace(record, mask=path_as_text(os.path.abspath(path)))
        found.append(record)
    if all(record.mask is None for record in found):
        there = f"the first one there is '{listed[0]}'" if listed else "it holds no images"
        raise InputError(
            f"no mask in '{folder}' has the name of a view, such as '{records[0].name}.png': {there}"
        )
    return found


def _without_suffix(name: str) -> str:
    return name[: -len(suffix_of(name))] if suffix_of(name) in IMAGE_SUFFIXES else name


def _notes(
    records: Sequence[ViewRecord],
    packed: UInt8[np.ndarray, "views height eighths"],
    width: int,
    lacking: Sequence[str],
    damaged: Sequence[str],
) -> tuple[str, ...]:
    masked = sum(record.mask is not None for record in records)
    share = float(np.bitwise_count(packed).sum()) / (packed.shape[0] * packed.shape[1] * width)
    notes = [f"masks of {masked} of {counted(len(records), 'view')} hide {share:.0%} of all pixels"]
    if lacking:
        notes.append(f"{counted(len(lacking), 'view')} without a mask kept whole: {enumerated(lacking)}")
    if damaged:
        notes.append(
            f"{counted(len(damaged), 'mask')} not used, the views are kept whole: {'; '.join(damaged[:5])}"
        )
    return tuple(notes)
