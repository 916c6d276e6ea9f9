"""What a data set is: how it is recognised, read, and laid out on disk."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import InputError
from ..files.naming import enumerated, natural_key, suggestion
from ..files.paths import user_path

if TYPE_CHECKING:
    from .posed_set import PosedSet


@dataclasses.dataclass(frozen=True)
class Scene:
    """One sequence: `name` as papers and splits have it, `group` the category it is averaged in."""

    name: str
    folder: Path
    group: str = ""


@dataclasses.dataclass(frozen=True)
class Dataset:
    """A data set of posed images.

    Args:
        fits: Whether a folder (or file) looks like a scene of it.
        reader: Reads the scene in a folder that fits. Raises InputError for damaged or missing files.
        layout: Files of a scene under the root, for error messages.
        places: (folder under the root, pattern of scenes in it); the first with any scene is used.
        source: Where the data set is from.
        splits: Lists of scenes by name, as papers use them; names may be patterns.
        vanishing: Whether the source loses scenes, so that nobody has a split whole: what is there is used.
        left_out: Frames (SCENE/IMAGE, names may be patterns) that a split goes without, by its name.
        scene_prefix: Prefix of folder names that scene names go without.
        scene_name: Name of a scene by its path under the place, instead of `scene_prefix`.
        grouped: Whether scenes are averaged in groups, the first folder of their names.
        in_test_set: Whether a scene that fits is part of the test set; None: all are.
        has_cameras: False for depth alone, which is not recognised as a posed set.
        every_image_reader: Reads it for protocols that count every image, where that is another reading.
        name: On the command line; filled from the list of data sets, like `title`.
    """

    fits: Callable[[Path], bool]
    reader: Callable[[Path], PosedSet]
    layout: str
    places: tuple[tuple[str, str], ...]
    source: str
    splits: Mapping[str, str] = dataclasses.field(default_factory=dict)
    vanishing: bool = False
    left_out: Mapping[str, str] = dataclasses.field(default_factory=dict)
    scene_prefix: str = ""
    scene_name: Callable[[str], str] | None = None
    grouped: bool = False
    in_test_set: Callable[[Path], bool] | None = None
    has_cameras: bool = True
    every_image_reader: Callable[[Path], PosedSet] | None = None
    name: str = ""
    title: str = ""

    def split(self, name: str) -> tuple[str, ...]:
        """The scenes (names or patterns) of a split. Raises ValueError for an unknown one."""
        if name not in self.splits:
            splits = ", ".join(self.splits) or "none"
            raise ValueError(f"{self.name} has no split {name!r}; there are: {splits}")
        return tuple(self.splits[name].split())

    def scenes(
        self,
        root: str | Path,
        split: str | None = None,
        only: Sequence[str] = (),
        complete: bool = True,
    ) -> tuple[Scene, ...]:
        """The scenes under `root`: those of a split, or those that `only` names (names or patterns), or all.

        Raises InputError where the root is no folder, holds no scene, or (`complete`) lacks one that is asked
        for.
        """
        root = user_path(root)
        expected = f"expected {root}/{self.layout} (from {self.source})"
        if not root.is_dir():
            raise InputError(f"'{root}' is no folder{suggestion(root)}; {expected}")
        found = self._found(root)
        if not found:
            raise InputError(f"{root}: holds no scene of {self.title}; {expected}")
        wanted = tuple(only) or (self.split(split) if split else ())
        if not wanted:
            return found
        absent = absent_of(wanted, found)
        gone = self.vanishing and not only and len(absent) < len(wanted)
        if absent and complete and not gone:
            remedy = (
                f"there are {enumerated(scene.name for scene in found)}"
                if only
                else "complete the download, or name the scenes to use with --scenes"
            )
            raise InputError(
                f"{root}: {len(absent)} of {len(wanted)} scenes are missing ({enumerated(absent)}); "
                f"{expected}; {remedy}"
            )
        exact, there = set(wanted), {scene.name for scene in found}
        patterns = exact - there - set(absent)
        return tuple(s for s in found if s.name in exact or any(_matches(s.name, p) for p in patterns))

    def read(self, scene: Scene | Path, every_image: bool = False) -> PosedSet:
        """The images and cameras of a scene under its name, or of a folder under the folder's.

        Frames without a camera are left out, or with `every_image` kept with NaN for their camera, for
        protocols that count them.
        """
        folder = scene.folder if isinstance(scene, Scene) else scene
        if every_image:
            posed = (self.every_image_reader or self.reader)(folder)
        else:
            posed = self.reader(folder)
            posed = posed.with_cameras() if self.has_cameras else posed
        name = scene.name if isinstance(scene, Scene) else posed.name
        return dataclasses.replace(posed, name=name, format=self.name)

    def _found(self, root: Path) -> tuple[Scene, ...]:
        for place, pattern in self.places:
            base = root / place
            if not base.is_dir():
                continue
            folders = [
                f
                for f in ([base] if pattern == "." else base.glob(pattern))
                if (f.is_dir() or pattern.endswith(f.suffix or "/"))
                and self.fits(f)
                and (self.in_test_set is None or self.in_test_set(f))
            ]
            if folders:
                folders.sort(key=lambda folder: natural_key(folder.as_posix()))
                return tuple(self._scene(base, folder) for folder in folders)
        return ()

    def _scene(self, base: Path, folder: Path) -> Scene:
        name = folder.resolve().name if folder == base else folder.relative_to(base).as_posix()
        name = self.scene_name(name) if self.scene_name else name.removeprefix(self.scene_prefix)
        return Scene(name, folder, name.split("/")[0] if self.grouped else "")


def absent_of(wanted: Sequence[str], scenes: Sequence[Scene]) -> list[str]:
    """The names and patterns that no scene has."""
    names = {scene.name for scene in scenes}
    return [one for one in wanted if one not in names and not any(_matches(name, one) for name in names)]


def _matches(name: str, pattern: str) -> bool:
    """Whole names, patterns, or a folder of scenes ("chess" for chess/seq-01)."""
    return fnmatchcase(name, pattern) or fnmatchcase(name, f"{pattern}/*")
