"""Photographs as training data: confirmed depth, views that see the same places, cuts, mirror images."""

from __future__ import annotations

import dataclasses
import random
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from tools.training.photographs import Photographs, prepare_all, undistort

from manyview.datasets import read_posed_set
from manyview.errors import InputError, UsageError
from manyview.geometry.cameras import quat_xyzw_from_rotation
from manyview.geometry.unproject import project
from manyview.synthetic import SceneBatch, SceneOptions, render_scenes
from manyview.train import run
from manyview.train.config import TrainConfig, config_from_json
from manyview.train.covisibility import covisibility, covisible_views
from manyview.train.posed_data import PosedFolders, posed_scenes
from manyview.train.sources import check_sources, with_pictures, with_posed_data

from .tiny import tiny_config

VIEWS, HEIGHT, WIDTH, BEND = 5, 144, 192, 0.04


@pytest.fixture(scope="module")
def rendered() -> SceneBatch:
    options = SceneOptions.medium(
        kind="room", path="walk", motion="narrow", texture_hardness=1.0, haze_free_share=1.0, light_change=0.0
    )
    return render_scenes([5], VIEWS, HEIGHT, WIDTH, options)


def colmap(scene: SceneBatch, folder: Path, depth: bool, bend: float = 0.0) -> None:
    """The scene as a COLMAP model, said to be of a camera that bends its images; with depth or without."""
    (folder / "sparse").mkdir(parents=True)
    (folder / "images").mkdir()
    focal = float(scene.intrinsics[0, 0, 0, 0])
    lens = f"SIMPLE_RADIAL {WIDTH} {HEIGHT} {focal} {WIDTH / 2} {HEIGHT / 2} {bend}"
    (folder / "sparse/cameras.txt").write_text(f"1 {lens}\n")
    rows = []
    for i in range(VIEWS):
        camera = scene.cam_from_world[0, i].double()
        x, y, z, w = quat_xyzw_from_rotation(camera[:, :3]).tolist()
        values = " ".join(f"{value:.9f}" for value in (w, x, y, z, *camera[:, 3].tolist()))
        rows.append(f"{i + 1} {values} 1 {i}.png\n")
        array = (scene.images[0, i].permute(1, 2, 0) * 255).round().byte().numpy()
        Image.fromarray(array).save(folder / "images" / f"{i}.png")
        if depth:
            (folder / "depth").mkdir(exist_ok=True)
            np.save(folder / "depth" / f"{i}.npy", scene.z_depth[0, i].numpy())
    (folder / "sparse/images.txt").write_text("\n".join(rows) + "\n")
    points = scene.world_points[0, :, ::12, ::12].flatten(0, 2).tolist()
    lines = [f"{n} {x} {y} {z} 9 9 9 0.5" for n, (x, y, z) in enumerate(points, 1)]
    (folder / "sparse/points3D.txt").write_text("\n".join(lines) + "\n")


@pytest.fixture(scope="module")
def folder(rendered: SceneBatch, tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("sets") / "room"
    colmap(rendered, place, depth=True)
    return place


def test_depth_beside_a_model_is_read(rendered: SceneBatch, folder: Path) -> None:
    found = posed_scenes(PosedFolders((str(folder),), ordered=True), [0], VIEWS, HEIGHT, WIDTH)
    torch.testing.assert_close(found.z_depth, rendered.z_depth, atol=1e-4, rtol=0)


def test_stereo_measures_depth_between_known_cameras(rendered: SceneBatch, tmp_path: Path) -> None:
    pytest.importorskip("pycolmap")
    colmap(rendered, tmp_path / "room", depth=False)
    sets = Photographs((tmp_path / "room",), tmp_path / "out", depth_size=WIDTH // 2)
    prepare_all(sets)
    found = read_posed_set(tmp_path / "out" / "room")
    assert found.depth is not None and len(found) == VIEWS
    measured = np.stack([found.depth.read(i) for i in range(VIEWS)])
    true = rendered.z_depth[0, :, 1::2, 1::2].numpy()
    there = np.isfinite(measured)
    assert measured.shape == true.shape and float(there.mean()) > 0.2
    assert float(np.median(np.abs(measured / true - 1)[there])) < 0.02
    (tmp_path / "out" / "room" / "mine").touch()
    prepare_all(sets)  # it is there, and left as it is
    assert (tmp_path / "out" / "room" / "mine").exists()


def test_images_lose_their_distortion(rendered: SceneBatch, tmp_path: Path) -> None:
    pytest.importorskip("pycolmap")
    colmap(rendered, tmp_path / "bent", depth=False, bend=BEND)
    undistort(tmp_path / "bent", tmp_path / "straight", WIDTH)
    found = read_posed_set(tmp_path / "straight")
    assert found.intrinsics is not None and not found.notes  # none says that images are distorted
    with Image.open(tmp_path / "bent/images/0.png") as before, Image.open(found.images[0]) as after:
        bent, straight = (np.asarray(image.convert("L"), dtype=float) for image in (before, after))
    k, focal = found.intrinsics[0], float(rendered.intrinsics[0, 0, 0, 0])
    height, width = straight.shape
    y, x = np.mgrid[4 : height - 4 : 4, 4 : width - 4 : 4]
    u, v = (x + 0.5 - k[0, 2]) / k[0, 0], (y + 0.5 - k[1, 2]) / k[1, 1]
    radial = 1 + BEND * (u * u + v * v)
    column = (u * radial * focal + WIDTH / 2 - 0.5).round().astype(int)
    row = (v * radial * focal + HEIGHT / 2 - 0.5).round().astype(int)
    assert row.min() >= 0 and row.max() < HEIGHT and column.min() >= 0 and column.max() < WIDTH
    assert np.median(np.abs(straight[y, x] - bent[row, column])) < 4


def test_sets_that_cannot_be_prepared(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=str(tmp_path)):
        prepare_all(Photographs((tmp_path,), tmp_path / "out"))
    with pytest.raises(UsageError, match="room"):
        prepare_all(Photographs((folder, tmp_path / "room"), tmp_path / "out"))
    assert not (tmp_path / "out").exists()


def test_views_that_see_the_same_places(rendered: SceneBatch, folder: Path) -> None:
    share = covisibility(read_posed_set(folder))
    assert share.shape == (VIEWS, VIEWS) and (share == share.T).all() and (np.diag(share) == 1).all()
    assert share[0, 1] > share[0, VIEWS - 1] and share[0, 1] > 0.4  # neighbours of a walk
    # Views 0 to 2 see the same, and so do 3 to 5; of the two groups view 2 and 3 see a little in common.
    groups = np.kron(np.eye(2), np.ones((3, 3)))
    groups[2, 3] = groups[3, 2] = 0.1
    for seed in range(20):
        chosen = covisible_views(groups, 3, 0.5, random.Random(seed))
        assert len(set(chosen)) == 3 and len({view // 3 for view in chosen}) == 1
    assert sorted(covisible_views(groups, 6, 0.5, random.Random(0))) == list(range(6))


def test_cuts_lengthen_the_focal_length(rendered: SceneBatch, folder: Path) -> None:
    data = PosedFolders((str(folder),), covisible=0.1)
    plain = posed_scenes(data, [3], 3, 48, 64)
    near = posed_scenes(dataclasses.replace(data, zoom=(1.5, 1.5)), [3], 3, 48, 64)
    torch.testing.assert_close(near.cam_from_world, plain.cam_from_world)
    ratio = near.intrinsics[..., 0, 0] / plain.intrinsics[..., 0, 0]
    torch.testing.assert_close(ratio, torch.full_like(ratio, 1.5))
    many = posed_scenes(dataclasses.replace(data, zoom=(1.0, 2.0)), range(8), 2, 48, 64)
    focal = many.intrinsics[:, 0, 0, 0] / plain.intrinsics[0, 0, 0, 0]
    assert float(focal.min()) >= 1 and float(focal.max()) <= 2 and float(focal.std()) > 0.1


def test_views_of_a_stream_keep_their_order(folder: Path) -> None:
    data = PosedFolders((str(folder),), covisible=0.1)
    every = posed_scenes(PosedFolders((str(folder),), ordered=True), [0], VIEWS, 48, 64).cam_from_world
    found = posed_scenes(dataclasses.replace(data, ordered=True), range(4), VIEWS, 48, 64).cam_from_world
    torch.testing.assert_close(found, every.expand_as(found))
    assert not torch.allclose(posed_scenes(data, range(4), VIEWS, 48, 64).cam_from_world, found)


def test_mirror_images_are_true(folder: Path) -> None:
    plain = PosedFolders((str(folder),), covisible=0.1)
    mirror = dataclasses.replace(plain, mirror=True)
    mirrored = 0
    for seed in range(6):
        before, found = (posed_scenes(data, [seed], 2, 48, 64) for data in (plain, mirror))
        assert float(torch.linalg.det(found.cam_from_world[..., :3]).min()) == pytest.approx(1, abs=1e-4)
        if not torch.equal(found.images, before.images):
            mirrored += 1
            torch.testing.assert_close(found.images, before.images.flip(-1))
        pixels, z = project(found.world_points[0, 0].flatten(0, 1), found.cam_from_world[0, 0],
                            found.intrinsics[0, 0])  # fmt: skip
        valid = found.valid[0, 0].flatten()
        torch.testing.assert_close(z[valid], found.z_depth[0, 0].flatten()[valid], atol=1e-3, rtol=0)
        grid = torch.stack(torch.meshgrid(torch.arange(64) + 0.5, torch.arange(48) + 0.5, indexing="xy"), -1)
        torch.testing.assert_close(pixels[valid], grid.flatten(0, 1)[valid], atol=1e-2, rtol=0)
    assert 0 < mirrored < 6


def test_options_that_cannot_be(folder: Path) -> None:
    for wrong in ({"covisible": 1.0}, {"zoom": (0.5, 1.0)}, {"zoom": (2.0, 1.0)}, {"zoom": (1.0, 1e9)}):
        with pytest.raises(UsageError):
            PosedFolders(("a",), **wrong)


def shows_pictures() -> TrainConfig:
    """A recipe with two kinds of scenes, one of which shows pictures."""
    data = tiny_config(steps=6).to_json()
    scenes = [{"start": {"picture_share": 0.5}}, {"start": {}}]
    return config_from_json({**data, "stages": [{**stage, "scenes": scenes} for stage in data["stages"]]})


def test_a_recipe_takes_photographs_and_pictures(folder: Path, tmp_path: Path) -> None:
    Image.new("RGB", (8, 8)).save(tmp_path / "red.png")
    shown = with_pictures(shows_pictures(), tmp_path)
    first, second = shown.stages[0].scenes
    assert first.start["pictures"] == str(tmp_path.resolve()) and "pictures" not in second.start
    mixed = with_posed_data(shown, [folder], 0.5, photographs=True)
    posed = mixed.stages[0].scenes[-1].posed
    assert posed == PosedFolders.of_photographs((str(folder.resolve()),)) and posed.covisible > 0
    assert config_from_json(mixed.to_json()) == mixed
    check_sources(mixed)


def test_folders_are_checked_before_a_run(folder: Path, tmp_path: Path) -> None:
    bare = tmp_path / "bare"
    shutil.copytree(folder, bare, ignore=shutil.ignore_patterns("depth"))
    many = dataclasses.replace(tiny_config().stages[0], views=(2, VIEWS + 1))
    many_views = dataclasses.replace(tiny_config(), stages=(many,))
    for config, named in (
        (shows_pictures(), "--textures"),
        (with_pictures(shows_pictures(), tmp_path / "empty"), "empty"),
        (with_posed_data(tiny_config(), [tmp_path / "empty"], 0.5), "empty"),
        (with_posed_data(tiny_config(), [bare], 0.5, photographs=True), "bare.*tools.training"),
        (with_posed_data(many_views, [folder], 0.5), f"{folder}.*{VIEWS + 1} views"),
    ):
        with pytest.raises((InputError, UsageError), match=named):
            run(config, tmp_path / "run")
    assert not (tmp_path / "run").exists()
    with pytest.raises(UsageError, match=r"empty.*tools\.training"):
        with_posed_data(tiny_config(), [tmp_path / "empty"], 0.5, photographs=True)
    with pytest.raises(UsageError, match="tiny"):
        with_pictures(tiny_config(), tmp_path)
