"""A dataset under a root: finding its scenes, choosing among them, and saying what is missing."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from types import ModuleType

from ..errors import InputError
from ..files.naming import natural_key, suggestion
from .posed_set import PosedSet

_NAMED = 4


@dataclasses.dataclass(frozen=True)
class Scene:
    """One sequence: `name` is how papers and splits call it, `group` the category it is averaged in."""

    name: str
    folder: Path
    group: str = ""


@dataclasses.dataclass(frozen=True)
class Dataset:
    """`places` are (folder under the root, pattern of scenes in it), the first with any is used.

    `layout` says what is expected where, `source` where it is from; `drop` is a prefix of folder names that
    scene names go without, `called` makes a name of a path under the place; `usable` refuses scenes that are
    not part of the test set.
    """

    name: str
    title: str
    reader: ModuleType
    places: tuple[tuple[str, str], ...]
    layout: str
    source: str
    drop: str = ""
    grouped: bool = False
    usable: Callable[[Path], bool] | None = None
    called: Callable[[str], str] | None = None

    def scenes(
        self, root: str | Path, split: tuple[str, ...] = (), only: Sequence[str] = ()
    ) -> tuple[Scene, ...]:
        """The scenes under `root`, of a split (names or patterns), or only those that `only` names.

        InputError where the root is no folder, holds no scene, or lacks one that is asked for.
        """
        root = Path(root).expanduser()
        if not root.is_dir():
            raise InputError(f"'{root}' is no folder{suggestion(root)}; {self._expected(root)}")
        found = self._found(root)
        if not found:
            raise InputError(f"{root}: holds no scene of {self.title}; {self._expected(root)}")
        wanted = tuple(only) or split
        if not wanted:
            return found
        chosen = [s for s in found if any(_matches(s.name, pattern) for pattern in wanted)]
        absent = [pattern for pattern in wanted if not any(_matches(s.name, pattern) for s in found)]
        if absent:
            some = _some(absent)
            remedy = (
                f"there are {_some([scene.name for scene in found])}"
                if only
                else "complete the download, or name the scenes to use with --scenes"
            )
            raise InputError(
                f"{root}: {len(absent)} of {len(wanted)} scenes are missing ({some}); "
                f"{self._expected(root)}; {remedy}"
            )
        return tuple(chosen)

    def read(self, scene: Scene) -> PosedSet:
        """The scene's pictures and cameras under its name."""
        posed = self.reader.read(scene.folder)
        return dataclasses.replace(posed, name=scene.name)

    def _expected(self, root: Path) -> str:
        return f"expected {root}/{self.layout} (from {self.source})"

    def _found(self, root: Path) -> tuple[Scene, ...]:
        for place, pattern in self.places:
            base = root / place
            if not base.is_dir():
                continue
            folders = [base] if pattern == "." else list(base.glob(pattern))
            folders = [
                f
                for f in folders
                if (f.is_dir() or pattern.endswith(f.suffix or "/"))
                and self.reader.fits(f)
                and (self.usable is None or self.usable(f))
            ]
            if folders:
                return tuple(self._scene(base, folder) for folder in sorted(folders, key=_order))
        return ()

    def _scene(self, base: Path, folder: Path) -> Scene:
        name = folder.resolve().name if folder == base else folder.relative_to(base).as_posix()
        name = self.called(name) if self.called is not None else name.removeprefix(self.drop)
        return Scene(name, folder, name.split("/")[0] if self.grouped else "")


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:_NAMED]) + (", ..." if len(names) > _NAMED else "")


def _order(path: Path) -> tuple:
    return natural_key(path.as_posix())


def _matches(name: str, pattern: str) -> bool:
    """Whole names, patterns, or a folder of scenes ("chess" for chess/seq-01)."""
    return fnmatchcase(name, pattern) or fnmatchcase(name, f"{pattern}/*")
