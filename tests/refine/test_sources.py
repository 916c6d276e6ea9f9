"""Where original images are found, and what is said when they are gone."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from manyview.errors import InputError, UsageError
from manyview.refine.sources import with_sources
from tests.analytic_scene import room_scene, write_sources


def test_images_are_found_where_they_are_now(tmp_path: Path) -> None:
    scene, truth = room_scene(views=2, names=["a/0.png", "b/1.png"])
    with pytest.raises(InputError, match=r"a/0\.png.*--images"):
        with_sources(scene)
    found = write_sources(scene, truth, tmp_path)
    assert with_sources(found) is not None
    for moved in (
        with_sources(scene, tmp_path),
        with_sources(scene, [tmp_path / name for name in scene.names]),
    ):
        assert [view.source_path for view in moved.views] == [view.source_path for view in found.views]
        assert moved.names == scene.names
    (tmp_path / "a" / "0.png").rename(tmp_path / "0.jpeg")  # found by its name alone
    assert with_sources(scene, tmp_path).views[0].source_path == tmp_path / "0.jpeg"
    (tmp_path / "0.jpeg").unlink()
    with pytest.raises(InputError, match=r"a/0\.png"):
        with_sources(scene, tmp_path)
    arrays = [np.zeros((240, 320, 3), np.uint8)] * 2
    assert with_sources(scene, arrays).views[0].image is arrays[0]
    with pytest.raises(UsageError, match="2 views"):
        with_sources(scene, arrays[:1])


def test_stored_views_that_were_given_in_memory_are_named(tmp_path: Path) -> None:
    scene, _ = room_scene(views=2)
    views = tuple(dataclasses.replace(view, source="") for view in scene.views)
    with pytest.raises(InputError, match="view_0"):
        with_sources(dataclasses.replace(scene, views=views))
