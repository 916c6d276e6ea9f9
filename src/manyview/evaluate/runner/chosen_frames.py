"""The frames of each scene of a data set that an evaluation runs on."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from pathlib import Path

from ...datasets import Dataset, Scene
from ...datasets.dataset import absent_of
from ...datasets.posed_set import PosedSet
from ...errors import InputError
from ..protocols.frames import Frames
from ..protocols.protocol import Protocol

FrameLists = Mapping[str, Sequence[str | int]]
"""Names of images, or numbers of frames from 0, by scene."""


def chosen_frames(
    dataset: Dataset,
    root: str | Path,
    protocol: Protocol,
    scenes: Sequence[Scene],
    rule: Frames,
    lists: FrameLists | None = None,
) -> list[tuple[PosedSet, int]]:
    """(the chosen frames in their order, how many there are) of each of `scenes`, by `lists` or by the rule.

    What is drawn at random is drawn over the protocol's whole split, so some of its scenes alone have the
    frames that they have among all. Raises InputError for a scene or frame of a list that does not exist.
    """
    every = rule.count == "all"
    sets = [dataset.read(scene, every_image=every) for scene in scenes]
    if lists is not None:
        chosen = [_listed(posed, scene, lists) for posed, scene in zip(sets, scenes)]
    else:
        split = protocol.split_of(dataset.name)
        left_out = dataset.left_out.get(split or "", "").split()
        usable = {scene.name: _usable(posed, scene, left_out) for posed, scene in zip(sets, scenes)}
        note: tuple[str, ...] = ()
        if rule.rule == "random":
            whole, note = _drawn_over(dataset, root, split, scenes)
            totals = [
                len(usable.get(scene.name) or _usable(dataset.read(scene, every), scene, left_out))
                for scene in whole
            ]
            drawn = dict(zip((scene.name for scene in whole), rule.choose_all(totals)))
        else:
            drawn = {
                scene.name: _by_rule(posed, usable[scene.name], rule) for posed, scene in zip(sets, scenes)
            }
        chosen = [
            posed.select([usable[scene.name][index] for index in drawn[scene.name]])
            for posed, scene in zip(sets, scenes)
        ]
        chosen = [dataclasses.replace(one, notes=(*one.notes, *note)) for one in chosen]
    if dataset.has_cameras and protocol.needs_cameras:
        chosen = [one.with_cameras() for one in chosen]
    return [(one, len(posed)) for one, posed in zip(chosen, sets)]


def _by_rule(posed: PosedSet, usable: Sequence[int], rule: Frames) -> list[int]:
    """Places in `usable`; strides count in the sequence that a folder was prepared from."""
    if posed.positions is None or len(usable) < 2 or not rule.by_stride:
        return rule.choose(len(usable))
    place = {posed.positions[index]: at for at, index in enumerate(usable)}
    last, step = max(place), min(second - first for first, second in itertools.pairwise(sorted(place)))
    return [place[position] for position in rule.choose(last + step) if position in place]


def _usable(posed: PosedSet, scene: Scene, left_out: Sequence[str]) -> list[int]:
    """The frames that no pattern leaves out."""
    names = [f"{scene.name}/{path.name}" for path in posed.images]
    return [
        index
        for index, name in enumerate(names)
        if not any(fnmatchcase(name, pattern) for pattern in left_out)
    ]


def _drawn_over(
    dataset: Dataset, root: str | Path, split: str | None, scenes: Sequence[Scene]
) -> tuple[list[Scene], tuple[str, ...]]:
    """(the scenes over which frames are drawn, a note where some of the split are missing).

    In the order of their names, those beyond the split last.
    """
    found = dataset.scenes(root, split, complete=False)
    listed = () if split is None else dataset.split(split)
    absent = absent_of(listed, found)
    note: tuple[str, ...] = ()
    if absent:
        note = (
            f"frames were drawn over {len(found)} scenes; {len(absent)} of the list {split!r} are missing",
        )
    known = {scene.name for scene in found}
    others = [scene for scene in scenes if scene.name not in known]
    return [*sorted(found, key=_name), *sorted(others, key=_name)], note


def _name(scene: Scene) -> str:
    return scene.name


def _listed(posed: PosedSet, scene: Scene, lists: FrameLists) -> PosedSet:
    """The frames that a list names or counts; pi3's lists name scenes without their category."""
    name = scene.name if scene.name in lists else scene.name.rpartition("/")[2]
    if name not in lists:
        raise InputError(f"the list of frames has no scene {scene.name}; name the scenes with --scenes")
    places: dict[str | int, int] = {
        key: index for index, path in enumerate(posed.images) for key in (index, path.name, path.stem)
    }
    absent = [frame for frame in lists[name] if frame not in places]
    if absent:
        raise InputError(
            f"{scene.folder}: has no frame {absent[0]} that the list of frames names; it has {len(posed)}"
        )
    return posed.select([places[frame] for frame in lists[name]])
