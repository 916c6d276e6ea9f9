"""Where the original images of a result's views are now."""

from __future__ import annotations

import dataclasses
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath

from ..errors import InputError, UsageError
from ..files.naming import counted
from ..files.paths import path_as_text, user_path
from ..reconstruction.inputs.folder import list_folder
from ..reconstruction.inputs.in_memory import ImageInput, split_batches
from ..reconstruction.inputs.views import ViewRecord
from ..reconstruction.result.result import Reconstruction

SourceImages = str | os.PathLike[str] | Sequence[ImageInput]
_REMEDY = "give the folder where the images are now as --images (in Python: images=)"


def with_sources(scene: Reconstruction, images: SourceImages | None = None) -> Reconstruction:
    """The scene with views whose sources can be read.

    Args:
        scene: The result; None of `images` takes the sources that its views name.
        images: The folder or the video where they are now, or one path, Pillow image, array or tensor a view.

    Raises:
        InputError: A source is gone, or not in the folder; the message names it.
        UsageError: Another number of images than views.
    """
    if images is None:
        views = scene.views
    elif isinstance(images, str | os.PathLike):
        views = _from_place(scene.views, user_path(images))
    else:
        views = _one_each(scene.views, list(split_batches(images)))
    for view in views:
        if view.image is None and not (view.source and view.source_path.is_file()):
            where = f"is no longer at {view.source_path}" if view.source else "was given in memory"
            raise InputError(f"the image of view {view.name!r} {where}; {_REMEDY}")
    return dataclasses.replace(scene, views=views)


def _from_place(views: Sequence[ViewRecord], place: Path) -> tuple[ViewRecord, ...]:
    """Views with the images of their names in a folder, or with the frames of a video that is now there."""
    if place.is_file():
        photo = next((view.name for view in views if view.video_frame is None), None)
        if photo is not None:
            raise InputError(f"{place}: is one file, but view {photo!r} is no frame of a video; {_REMEDY}")
        return tuple(dataclasses.replace(view, source=path_as_text(place)) for view in views)
    if not place.is_dir():
        raise InputError(f"'{place}' is no folder or video; {_REMEDY}")
    names = list_folder(place).images
    tables = [_unique(names, level) for level in range(3)]
    found = []
    for view in views:
        keys = _keys(view.name)
        name = next((tables[level][keys[level]] for level in range(3) if keys[level] in tables[level]), None)
        if name is None:
            raise InputError(f"{place}: holds no image of view {view.name!r}; {_REMEDY}")
        found.append(_at(view, place / name))
    return tuple(found)


def _unique(names: Sequence[str], level: int) -> Mapping[str, str]:
    keys = [_keys(name)[level] for name in names]
    times = Counter(keys)
    return {key: name for key, name in zip(keys, names, strict=True) if times[key] == 1}


def _keys(name: str) -> tuple[str, str, str]:
    """A name, without its folders, and without its suffix too."""
    path = PurePosixPath(name)
    return str(path), path.name, path.stem


def _one_each(views: Sequence[ViewRecord], images: Sequence[ImageInput]) -> tuple[ViewRecord, ...]:
    if len(images) != len(views):
        raise UsageError(f"there are {counted(len(images), 'image')} for {counted(len(views), 'view')}")
    return tuple(
        _at(view, user_path(image))
        if isinstance(image, str | os.PathLike)
        else dataclasses.replace(view, source="", image=image, video_frame=None)
        for view, image in zip(views, images, strict=True)
    )


def _at(view: ViewRecord, path: Path) -> ViewRecord:
    return dataclasses.replace(view, source=path_as_text(path.absolute()), image=None, video_frame=None)
