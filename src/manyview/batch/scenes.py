"""The scenes of a batch: a line of a list, or a folder or video in a folder, each with a name of its own."""

from __future__ import annotations

import dataclasses
import glob
import hashlib
import os
import re
from collections.abc import Sequence
from pathlib import Path

from ..errors import InputError, UsageError
from ..files.naming import (
    VIDEO_SUFFIXES,
    enumerated,
    is_clutter,
    natural_key,
    printable,
    suffix_of,
    suggestion,
)
from ..files.paths import file_names, user_path
from ..files.schema import read_regular

_LONGEST_NAME = 200
"""Bytes; what is written beside a scene has a longer name."""


@dataclasses.dataclass(frozen=True)
class Scene:
    """One scene: the name of its result folder, and an input as `reconstruct` takes it (an absolute path)."""

    name: str
    input: str


@dataclasses.dataclass(frozen=True)
class Shard:
    """Part `index` (from 1) of `count`; a scene's name alone decides which part it is in."""

    index: int = 1
    count: int = 1

    @classmethod
    def parse(cls, text: str) -> Shard:
        """ "2/8". Raises UsageError for anything else."""
        found = re.fullmatch(r"([0-9]{1,6})/([0-9]{1,6})", text.strip())
        if found is None or not 1 <= int(found[1]) <= int(found[2]):
            raise UsageError(
                f"--shard is a part and the number of parts, such as 1/8 to 8/8, not {printable(text)[:80]!r}"
            )
        return cls(int(found[1]), int(found[2]))

    def of(self, scenes: Sequence[Scene]) -> list[Scene]:
        """Those of the scenes that are in this part; parts are about equal, and adding scenes moves none."""
        return [scene for scene in scenes if self._part(scene.name) == self.index - 1]

    def _part(self, name: str) -> int:
        return int.from_bytes(hashlib.sha256(name.encode()).digest(), "big") % self.count


def read_scenes(given: Path) -> list[Scene]:
    """The scenes of a folder or of a list.

    Args:
        given: A folder: each of its folders and videos is a scene, in natural sort order, called like it. Or
            a text file with a line for each scene: an input as `reconstruct` takes it (relative to the list's
            folder) and, if its result is not to be called like it, a tab and a name. Blank lines and lines
            starting with # are skipped.

    Raises:
        InputError: There are no scenes, or two of the same name.
    """
    if given.is_dir():
        scenes = _from_folder(given)
    elif given.is_file():
        scenes = _from_list(given)
    else:
        raise InputError(f"'{given}' does not exist{suggestion(given)}")
    names = [scene.name for scene in scenes]
    for scene, unique in zip(scenes, file_names(names), strict=True):
        if unique != scene.name:
            same = [one.input for one in scenes if one.name.casefold() == scene.name.casefold()]
            raise InputError(
                f"{given}: more than one scene is called {scene.name} ({enumerated(same, 2)}); list them in "
                "a text file, a line each, with a tab and a name behind"
            )
    return scenes


def write_list(scenes: Sequence[tuple[Scene, str]]) -> str:
    """A list of scenes, each below a remark, that `read_scenes` reads."""
    lines = []
    for scene, remark in scenes:
        lines += [f"# {printable(' '.join(remark.split()))}", f"{scene.input}\t{scene.name}"]
    return "".join(f"{line}\n" for line in lines)


def _from_folder(folder: Path) -> list[Scene]:
    names = sorted((name for name in os.listdir(folder) if not is_clutter(name)), key=natural_key)
    folders = [name for name in names if (folder / name).is_dir()]
    videos = [name for name in names if suffix_of(name) in VIDEO_SUFFIXES and (folder / name).is_file()]
    if not folders and not videos:
        raise InputError(
            f"'{folder}' holds no folders and no videos, a scene each; for the images of one scene use "
            "manyview reconstruct"
        )
    found = sorted((*folders, *videos), key=natural_key)
    return [_scene(folder / name, "") for name in found]


def _from_list(path: Path) -> list[Scene]:
    try:
        text = read_regular(path).decode("utf-8-sig", "surrogateescape")
    except OSError as error:
        raise InputError(f"'{path}' cannot be read: {error.strerror or error}") from error
    scenes = []
    for number, line in enumerate(re.split("\r\n?|\n", text), start=1):
        entry, _, name = (part.strip() for part in line.partition("\t"))
        if not entry or entry.startswith("#"):
            continue
        try:
            scenes.append(_scene(path.absolute().parent / user_path(entry), name))
        except InputError as error:
            raise InputError(f"line {number} of the list '{path}': {error}") from error
    if not scenes:
        raise InputError(f"the list '{path}' names no scenes; write one folder or video per line")
    return scenes


def _scene(path: Path, name: str) -> Scene:
    path = Path(os.path.abspath(path))
    if not name:
        called = path
        while glob.has_magic(called.name) and not path.exists():  # a pattern is called like its folder
            called = called.parent
        name = called.stem if path.is_file() else called.name
    clean = file_names([name])[0] if name else ""
    if not clean or "/" in clean or clean.startswith(".") or len(clean.encode()) > _LONGEST_NAME:
        raise InputError(
            f"{printable(name)[:80]!r} cannot be the name of a result folder; give one of up to "
            f"{_LONGEST_NAME} bytes without slashes, behind a tab"
        )
    return Scene(clean, os.fspath(path))
