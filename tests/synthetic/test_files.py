from __future__ import annotations

import errno

import numpy as np
import pytest
from PIL import Image

from manyview.errors import OutputError, UsageError
from manyview.synthetic import render_scenes, write_scene


@pytest.fixture(scope="module")
def batch():
    return render_scenes([4, 5], 3, 16, 24)


def test_images_and_truth_are_those_of_the_scene(batch, tmp_path):
    images = write_scene(tmp_path / "scene", batch, 1)
    paths = sorted(images.iterdir())
    assert [path.name for path in paths] == ["view_000.png", "view_001.png", "view_002.png"]
    image = np.asarray(Image.open(paths[2])) / 255.0
    assert np.abs(image - batch.images[1, 2].permute(1, 2, 0).numpy()).max() <= 0.5 / 255 + 1e-6
    with np.load(tmp_path / "scene" / "truth.npz") as truth:
        assert set(truth) == {"cam_from_world", "intrinsics", "z_depth", "valid", "world_points"}
        for name in truth:
            assert np.array_equal(truth[name], getattr(batch, name)[1].numpy())


def test_a_folder_with_something_is_kept(batch, tmp_path):
    (tmp_path / "letter.txt").write_text("dear")
    for overwrite in (False, True):
        with pytest.raises(OutputError):
            write_scene(tmp_path, batch, overwrite=overwrite)
    assert [path.name for path in tmp_path.rglob("*")] == ["letter.txt"]


def test_only_a_scene_is_overwritten(batch, tmp_path):
    write_scene(tmp_path / "scene", batch)
    with pytest.raises(OutputError, match=r"scene .*--overwrite"):
        write_scene(tmp_path / "scene", batch)
    write_scene(tmp_path / "scene", batch[1:], overwrite=True)
    with np.load(tmp_path / "scene" / "truth.npz") as truth:
        assert np.array_equal(truth["z_depth"], batch.z_depth[1].numpy())


def test_a_scene_that_is_not_there_is_refused(batch, tmp_path):
    with pytest.raises(UsageError, match="scene 2"):
        write_scene(tmp_path / "scene", batch, 2)


def test_a_place_that_cannot_be_written_is_named(batch, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="file"):
        write_scene(tmp_path / "file" / "scene", batch)


def test_a_scene_that_cannot_be_written_whole_leaves_nothing(batch, tmp_path, monkeypatch):
    def full(*args, **arrays):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(np, "savez_compressed", full)
        with pytest.raises(OutputError, match="scene"):
            write_scene(tmp_path / "scene", batch)
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]
    write_scene(tmp_path / "scene", batch)
