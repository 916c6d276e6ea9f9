"""Recursive listing of a folder of images, without what is not meant as input."""

from __future__ import annotations

import dataclasses
import logging
import os
import re
from collections import Counter
from pathlib import Path

from ...errors import InputError
from ...files.naming import (
    IMAGE_SUFFIXES,
    RAW_SUFFIXES,
    VIDEO_SUFFIXES,
    counted,
    enumerated,
    is_clutter,
    natural_key,
    suffix_of,
)

logger = logging.getLogger(__name__)

# Folders that data sets keep beside the photographs: their images are measurements or masks.
_COMPANION = re.compile(r"(depths?|masks?|normals?|disparit(y|ies)|segmentations?)([_-].*)?", re.IGNORECASE)
_SMALLER_COPY = re.compile(r"(?P<of>.+)_(2|4|8|16)")  # images_2, images_4: reduced copies of images/
_RESULT_FILE = "reconstruction.json"  # a folder that holds it is a result of this program


@dataclasses.dataclass
class Listing:
    """Relative names (forward slashes) of what was found below one folder."""

    images: list[str] = dataclasses.field(default_factory=list)
    videos: list[str] = dataclasses.field(default_factory=list)
    raws: list[str] = dataclasses.field(default_factory=list)
    ignored: Counter[str] = dataclasses.field(default_factory=Counter)
    left_out: dict[str, str] = dataclasses.field(default_factory=dict)  # sub-folder -> why
    unreadable: list[str] = dataclasses.field(default_factory=list)
    broken: list[str] = dataclasses.field(default_factory=list)  # links that lead nowhere

    def warnings(self, label: str) -> list[str]:
        """Sentences about what lies in the folder and is not used, or is used in a surprising order."""
        notes = []
        if self.videos:
            notes.append(
                f"'{label}' also holds {counted(len(self.videos), 'video')} ({enumerated(self.videos)}), "
                "not used; give a video as the input to reconstruct from it"
            )
        if self.raws:
            number = counted(len(self.raws), "camera raw file")
            notes.append(
                f"'{label}' also holds {number} ({enumerated(self.raws)}), which cannot be read; "
                "convert raw files to JPEG to use them"
            )
        for reason in dict.fromkeys(self.left_out.values()):
            folders = [name for name, why in self.left_out.items() if why == reason]
            number = counted(len(folders), "sub-folder")
            notes.append(
                f"{number} of '{label}' left out ({enumerated(folders)}): {reason}; "
                "give such a folder as the input to use it"
            )
        if self.unreadable:
            notes.append(f"sub-folders of '{label}' that may not be read: {enumerated(self.unreadable)}")
        if self.broken:
            number = counted(len(self.broken), "link")
            notes.append(f"{number} in '{label}' skipped, leading nowhere: {enumerated(self.broken)}")
        return notes


def list_folder(root: Path) -> Listing:
    """Everything of interest below `root`, symbolic links followed once; images in natural sort order."""
    listing = Listing()
    _visit(root, "", listing, {os.path.realpath(root)})
    _leave_out_companions(listing)
    for names in (listing.images, listing.videos, listing.raws, listing.unreadable, listing.broken):
        names.sort(key=natural_key)
    if listing.ignored:
        kinds = ", ".join(f"{number} {suffix}" for suffix, number in sorted(listing.ignored.items()))
        logger.debug("files in %s that are not images: %s", root, kinds)
    return listing


def _visit(root: Path, inside: str, listing: Listing, seen: set[str]) -> None:
    try:
        entries = sorted(os.scandir(root / inside), key=lambda entry: entry.name)
    except OSError as error:
        if not inside:
            raise InputError(f"the folder '{root}' cannot be read: {error.strerror}") from error
        listing.unreadable.append(inside)
        return
    if inside and any(entry.name == _RESULT_FILE for entry in entries):
        listing.left_out[inside] = "results of an earlier run"
        return
    for entry in entries:
        name = f"{inside}/{entry.name}" if inside else entry.name
        if is_clutter(entry.name):
            listing.ignored["hidden or system file"] += 1
        elif _leads_nowhere(entry):
            listing.broken.append(name)
        elif entry.is_dir():
            real = os.path.realpath(entry.path)
            if real not in seen:
                _visit(root, name, listing, seen | {real})
        elif entry.is_file():
            _sort_in(name, listing)


def _leads_nowhere(entry: os.DirEntry[str]) -> bool:
    """Whether it is a link to itself or to nothing."""
    return entry.is_symlink() and not os.path.exists(entry.path)


def _sort_in(name: str, listing: Listing) -> None:
    suffix = suffix_of(name)
    if suffix in IMAGE_SUFFIXES:
        listing.images.append(name)
    elif suffix in VIDEO_SUFFIXES:
        listing.videos.append(name)
    elif suffix in RAW_SUFFIXES:
        listing.raws.append(name)
    else:
        listing.ignored[suffix or "without suffix"] += 1


def _leave_out_companions(listing: Listing) -> None:
    """Drop depth maps, masks and reduced copies when the images they accompany are there too."""
    top_folders = {name.split("/")[0] for name in listing.images if "/" in name}
    reasons: dict[str, str] = {}
    for folder in top_folders:
        copy = _SMALLER_COPY.fullmatch(folder)
        if copy and copy["of"] in top_folders:
            reasons[folder] = f"smaller copies of '{copy['of']}'"
        elif _COMPANION.fullmatch(folder):
            reasons[folder] = "by their names they hold no photographs"
    kept = [name for name in listing.images if name.split("/")[0] not in reasons]
    if kept:
        listing.images = kept
        listing.left_out.update((folder, reasons[folder]) for folder in sorted(reasons))
