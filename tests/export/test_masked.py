"""Masked pixels in exports: mask files, transparent images, no points, no depth, no observations."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from manyview.export import ColmapOptions, DepthOptions, NerfstudioOptions, TrackOptions, export
from manyview.export.tracks import scene_tracks
from manyview.reconstruction.result.masks import with_masks
from manyview.reconstruction.result.result import Reconstruction
from tests.analytic_scene import fit_transform, room_scene, write_sources

NAMES = ["left/a.jpg", "b.png", "tall one.jpg"]
SIZES = [(101, 75), (101, 75), (75, 101)]
KEPT = [np.arange(width) < 40 for width, _ in SIZES]  # the left of each image


@pytest.fixture
def scene(tmp_path: Path) -> Reconstruction:
    found, truth = room_scene([fit_transform(size, (56, 56)) for size in SIZES], NAMES)
    found = write_sources(found, truth, tmp_path / "in")
    masks = [np.broadcast_to(row, (height, width)) for row, (width, height) in zip(KEPT, SIZES, strict=True)]
    return with_masks(found, [mask.copy() for mask in masks])


def opened(path: Path) -> Image.Image:
    with Image.open(path) as image:
        return image.copy()


def columns(path: Path) -> np.ndarray:
    """Values of a picture's columns, which are the same in every row."""
    values = np.asarray(Image.open(path))
    assert (values == values[:1]).all()
    return values[0]


def test_mask_files_beside_the_images(scene: Reconstruction, tmp_path: Path) -> None:
    out = tmp_path / "out"
    export(scene, out, "nerfstudio", NerfstudioOptions(max_points=100))
    frames = json.loads((out / "transforms.json").read_text())["frames"]
    for frame, kept in zip(frames, KEPT, strict=True):
        assert frame["mask_path"] == frame["file_path"].replace("images/", "masks/", 1) + ".png"
        assert opened(out / frame["mask_path"]).size == opened(out / frame["file_path"]).size
        np.testing.assert_array_equal(columns(out / frame["mask_path"]), kept * np.uint8(255))
    plain = dataclasses.replace(scene, masked=None)
    export(plain, tmp_path / "plain", "nerfstudio", NerfstudioOptions(max_points=100))
    assert "mask_path" not in (tmp_path / "plain" / "transforms.json").read_text()
    assert not (tmp_path / "plain" / "masks").exists()


def test_transparent_images(scene: Reconstruction, tmp_path: Path) -> None:
    pycolmap = pytest.importorskip("pycolmap")
    out = tmp_path / "out"
    export(scene, out, "colmap", ColmapOptions(images="transparent", downscale=(2,)))
    model = pycolmap.Reconstruction(out / "sparse" / "0")
    names = [model.images[i + 1].name for i in range(3)]
    assert names == ["left/a.png", "b.png", "tall_one.png"] and not (out / "opaque").exists()
    for folder, factor in (("images", 1), ("images_2", 2)):
        found = sorted(p.relative_to(out / folder).as_posix() for p in (out / folder).rglob("*.*"))
        assert found == sorted(names)
        for name, size, kept in zip(names, SIZES, KEPT, strict=True):
            image = opened(out / folder / name)
            assert image.mode == "RGBA" and image.size == (size[0] // factor, size[1] // factor)
            alpha = np.asarray(image.getchannel("A"))[0]
            np.testing.assert_array_equal(alpha > 0, kept[: size[0] // factor * factor : factor])
            assert np.asarray(image.convert("RGB")).std() > 5
    plain = dataclasses.replace(scene, masked=None)
    written = export(plain, tmp_path / "plain", "colmap", {"images": "transparent"})
    images = [opened(path) for path in written if path.suffix == ".png"]
    assert len(images) == 3 and {i.getchannel("A").getextrema() for i in images} == {(255, 255)}


def test_no_points_depth_or_observations(scene: Reconstruction, tmp_path: Path) -> None:
    assert scene.masked is not None and 0.3 < scene.masked.mean() < 0.8
    cloud = scene.point_cloud(0)
    assert len(cloud) == (~scene.masked).sum()
    export(scene, tmp_path, "depth", DepthOptions(original_resolution=True, min_conf_percentile=0))
    for name, kept in zip(("left/a", "b", "tall_one"), KEPT, strict=True):
        depth = np.asarray(Image.open(tmp_path / "depth" / f"{name}.png"))
        assert not depth[:, ~kept].any() and (depth[:, kept] > 0).mean() > 0.95
    options = TrackOptions(min_conf_percentile=0, measure=False)
    earlier = scene_tracks(dataclasses.replace(scene, masked=None), options)
    for found in (scene, dataclasses.replace(scene, tracks=earlier)):
        tracks = scene_tracks(found, options)
        x, y = np.floor(tracks.pixels).astype(int).T.clip(0, 55)
        assert len(tracks.points) and not scene.masked[tracks.view_index, y, x].any()
