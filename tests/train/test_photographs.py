"""Photographs as training data: confirmed depth, views that see the same places, cuts, mirror images."""

from __future__ import annotations

import dataclasses
import random
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from tools.training.photographs import prepare

from manyview.datasets import read_posed_set
from manyview.errors import InputError, UsageError
from manyview.geometry.cameras import quat_xyzw_from_rotation
from manyview.geometry.unproject import project
from manyview.synthetic import SceneBatch, SceneOptions, render_scenes
from manyview.train.config import config_from_json, with_pictures, with_posed_data
from manyview.train.covisibility import covisibility, covisible_views
from manyview.train.posed_data import PosedFolders, posed_scenes

from .tiny import tiny_config

VIEWS, HEIGHT, WIDTH, BEND = 6, 96, 128, 0.04


@pytest.fixture(scope="module")
def rendered() -> SceneBatch:
    options = SceneOptions.medium(
        kind="room", path="walk", motion="narrow", texture_hardness=1.0, haze_free_share=1.0, light_change=0.0
    )
    return render_scenes([5], VIEWS, HEIGHT, WIDTH, options)


def colmap(scene: SceneBatch, folder: Path, depth: bool) -> None:
    """The scene as a COLMAP model: of a camera that bends its images, or of a straight one with depth."""
    (folder / "sparse").mkdir(parents=True)
    (folder / "images").mkdir()
    focal = float(scene.intrinsics[0, 0, 0, 0])
    lens = f"SIMPLE_RADIAL {WIDTH} {HEIGHT} {focal} {WIDTH / 2} {HEIGHT / 2} {0.0 if depth else BEND}"
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


def test_stereo_measures_depth_between_known_cameras(
    rendered: SceneBatch, folder: Path, tmp_path: Path
) -> None:
    target = tmp_path / "room"
    share = prepare(folder, target, WIDTH, WIDTH)
    found = read_posed_set(target)
    assert found.depth is not None and found.intrinsics is not None and len(found) == VIEWS
    assert share > 0.2
    measured = np.stack([found.depth.read(i) for i in range(VIEWS)])
    true = rendered.z_depth[0].numpy()
    there = np.isfinite(measured)
    assert float(there.mean()) == pytest.approx(share, abs=0.01)
    assert float(np.median(np.abs(measured / true - 1)[there])) < 0.02


def test_images_lose_their_distortion(rendered: SceneBatch, tmp_path: Path) -> None:
    colmap(rendered, tmp_path / "bent", depth=False)
    prepare(tmp_path / "bent", tmp_path / "straight", WIDTH, 64)
    with (
        Image.open(tmp_path / "bent/images/0.png") as before,
        Image.open(tmp_path / "straight/images/0.jpg") as after,
    ):
        bent, straight = (np.asarray(image.convert("L"), dtype=float) for image in (before, after))
    focal = float(rendered.intrinsics[0, 0, 0, 0])
    y, x = np.mgrid[4 : HEIGHT - 4 : 4, 4 : WIDTH - 4 : 4]
    u, v = (x + 0.5 - WIDTH / 2) / focal, (y + 0.5 - HEIGHT / 2) / focal
    radial = 1 + BEND * (u * u + v * v)
    column = (u * radial * focal + WIDTH / 2 - 0.5).round().astype(int).clip(0, WIDTH - 1)
    row = (v * radial * focal + HEIGHT / 2 - 0.5).round().astype(int).clip(0, HEIGHT - 1)
    moved = np.abs(straight[y, x] - bent[row, column])
    assert np.median(moved) < 4 and np.median(moved) < np.median(np.abs(straight - bent)) + 4


def test_a_set_without_points_is_refused(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=str(tmp_path)):
        prepare(tmp_path, tmp_path / "out", 64, 64)


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
    for wrong in ({"covisible": 1.0}, {"zoom": (0.5, 1.0)}, {"zoom": (2.0, 1.0)}):
        with pytest.raises(UsageError):
            PosedFolders(("a",), **wrong)


def test_a_recipe_takes_photographs_and_pictures(tmp_path: Path) -> None:
    config = tiny_config(steps=6)
    scenes = ({"start": {"picture_share": 0.5}}, {"start": {}})
    data = config.to_json()
    data["stages"] = [{**stage, "scenes": list(scenes)} for stage in data["stages"]]
    shown = with_pictures(config_from_json({**data}), tmp_path)
    first, second = shown.stages[0].scenes
    assert first.start["pictures"] == str(tmp_path.resolve()) and "pictures" not in second.start
    mixed = with_posed_data(shown, [tmp_path], 0.5, covisible=0.2, zoom=(1.0, 2.0), mirror=True)
    posed = mixed.stages[0].scenes[-1].posed
    assert posed is not None and posed.covisible == 0.2 and posed.mirror
    assert config_from_json(mixed.to_json()) == mixed
