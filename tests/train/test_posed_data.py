"""Posed RGB-D folders as training data: rendered sequences written in three layouts come back as rendered."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from manyview.errors import UsageError
from manyview.geometry.cameras import invert_rigid, quat_xyzw_from_rotation, relative_to_first
from manyview.geometry.unproject import project
from manyview.synthetic import SceneBatch, SceneOptions, render_scenes
from manyview.train import run
from manyview.train.config import SceneMix, config_from_json
from manyview.train.log import read_log
from manyview.train.posed_data import PosedFolders, posed_scenes
from manyview.train.sources import with_posed_data
from manyview.train.targets import make_targets
from manyview.train.weights import export_weights

from .tiny import tiny_config

VIEWS, HEIGHT, WIDTH = 5, 96, 128


@pytest.fixture(scope="module")
def rendered() -> SceneBatch:
    return render_scenes([3], VIEWS, HEIGHT, WIDTH, SceneOptions(path="walk", motion="narrow"))


def files(scene: SceneBatch, folder: Path, colour: str, depth: str, per_metre: float) -> None:
    for i in range(VIEWS):
        picture = (scene.images[0, i].permute(1, 2, 0) * 255).round().byte().numpy()
        values = (scene.z_depth[0, i] * per_metre).round().numpy().astype(np.uint16)
        for name, array in ((colour, picture), (depth, values)):
            path = folder / name.format(i=i, t=100 + 0.1 * i)
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(array).save(path)


def matrices(scene: SceneBatch) -> np.ndarray:
    return torch.cat([invert_rigid(scene.cam_from_world[0]).double(),
                      torch.tensor([0, 0, 0, 1.0]).double().expand(VIEWS, 1, 4)], 1).numpy()  # fmt: skip


def seven_scenes(scene: SceneBatch, folder: Path) -> None:
    files(scene, folder, "frame-{i:06}.color.png", "frame-{i:06}.depth.png", 1000)
    for i, matrix in enumerate(matrices(scene)):
        np.savetxt(folder / f"frame-{i:06}.pose.txt", matrix)


def tum(scene: SceneBatch, folder: Path) -> None:
    files(scene, folder, "rgb/{t:.4f}.png", "depth/{t:.4f}.png", 5000)
    pose = torch.from_numpy(matrices(scene))
    quaternions = quat_xyzw_from_rotation(pose[:, :3, :3])
    rows = torch.cat([100 + 0.1 * torch.arange(VIEWS)[:, None], pose[:, :3, 3], quaternions], 1)
    np.savetxt(folder / "groundtruth.txt", rows.numpy())


def scannet(scene: SceneBatch, folder: Path) -> None:
    files(scene, folder, "color/{i}.png", "depth/{i}.png", 1000)
    for i, matrix in enumerate(matrices(scene)):
        (folder / "pose").mkdir(exist_ok=True)
        np.savetxt(folder / "pose" / f"{i}.txt", matrix)
    intrinsics = np.eye(4)
    intrinsics[:3, :3] = scene.intrinsics[0, 0]
    intrinsics[:2, 2] -= 0.5
    (folder / "intrinsic").mkdir()
    np.savetxt(folder / "intrinsic" / "intrinsic_color.txt", intrinsics)


def written(write, scene: SceneBatch, folder: Path) -> PosedFolders:
    write(scene, folder)
    k = scene.intrinsics[0, 0]
    known = tuple(float(x) for x in (k[0, 0], k[1, 1], k[0, 2], k[1, 2]))
    return PosedFolders((str(folder),), ordered=True, intrinsics=known if write is tum else None)


@pytest.mark.parametrize("write", [tum, scannet, seven_scenes])
def test_a_rendered_sequence_comes_back(write, rendered: SceneBatch, tmp_path: Path) -> None:
    found = posed_scenes(written(write, rendered, tmp_path), [0], VIEWS, HEIGHT, WIDTH)
    cameras = relative_to_first(found.cam_from_world)
    torch.testing.assert_close(cameras, relative_to_first(rendered.cam_from_world), atol=1e-5, rtol=0)
    if write is seven_scenes:  # its intrinsics are those of its own cameras, 640 pixels wide
        return
    assert (found.images - rendered.images).abs().max() < 0.003
    torch.testing.assert_close(found.z_depth, rendered.z_depth, atol=6e-4, rtol=0)
    torch.testing.assert_close(found.intrinsics, rendered.intrinsics, atol=1e-4, rtol=0)
    ours, theirs = make_targets(found, 8, matches=True), make_targets(rendered, 8, matches=True)
    torch.testing.assert_close(ours.pose_encoding, theirs.pose_encoding, atol=1e-3, rtol=0)
    torch.testing.assert_close(ours.points, theirs.points, atol=2e-3, rtol=0)


@pytest.mark.parametrize("size", [(48, 64), (64, 48), (40, 64), (24, 120)])
def test_other_sizes_stay_true(size: tuple[int, int], rendered: SceneBatch, tmp_path: Path) -> None:
    data = written(scannet, rendered, tmp_path)
    found = posed_scenes(data, [0], VIEWS, *size)
    assert found.images.shape[-2:] == size and found.z_depth.shape[-2:] == size
    # Points of the small depth map lie on the surfaces that the large one shows.
    first = rendered.cam_from_world[0, 0]
    world = found.world_points[0, 0].flatten(0, 1) - first[:, 3] @ first[:, :3]
    pixels, z = project(world, first, rendered.intrinsics[0, 0])
    x, y = pixels[:, 0].floor().long(), pixels[:, 1].floor().long()
    inside = (x >= 0) & (x < WIDTH) & (y >= 0) & (y < HEIGHT)
    assert bool(inside.all())
    apart = (rendered.z_depth[0, 0][y, x] - z).abs()
    assert float(apart.median()) < 0.01
    # The picture is cut around the principal point, as large as its shape allows.
    centre = found.intrinsics[0, 0, :2, 2]
    torch.testing.assert_close(centre, torch.tensor([size[1] / 2, size[0] / 2]), atol=1e-3, rtol=0)
    spread = torch.stack([pixels[:, 0].max() - pixels[:, 0].min(), pixels[:, 1].max() - pixels[:, 1].min()])
    assert bool((spread > 0.97 * torch.tensor([WIDTH, HEIGHT]) * (1 - 1 / min(size))).any())


@pytest.mark.parametrize("size", [(40, 56), (56, 48), (40, 64)])
def test_rounding_does_not_lead_out_of_the_image(
    size: tuple[int, int], rendered: SceneBatch, tmp_path: Path
) -> None:
    data = written(seven_scenes, rendered, tmp_path)
    for hundredth in range(5450, 5750, 7):
        centre = hundredth / 100
        cut = dataclasses.replace(data, intrinsics=(100.0, 100.0, centre, 47.3))
        found = posed_scenes(cut, [0], 1, *size).intrinsics[0, 0, :2, 2]
        torch.testing.assert_close(found, torch.tensor([size[1] / 2, size[0] / 2]), atol=1e-3, rtol=0)


def test_draws_depend_on_the_seed_and_keep_order_where_asked(rendered: SceneBatch, tmp_path: Path) -> None:
    ordered = written(scannet, rendered, tmp_path)
    shuffled = dataclasses.replace(ordered, ordered=False)
    first = posed_scenes(ordered, [1, 2], 3, 48, 64)
    assert torch.equal(first.images, posed_scenes(ordered, [1, 2], 3, 48, 64).images)
    every = posed_scenes(ordered, [0], VIEWS, 48, 64).images[0]
    orders = set()
    for seed in range(8):
        images = posed_scenes(shuffled, [seed], VIEWS, 48, 64).images[0]
        orders.add(tuple(int((every - image).abs().flatten(1).sum(1).argmin()) for image in images))
    assert len(orders) > 3 and all(sorted(order) == list(range(VIEWS)) for order in orders)


def test_holes_are_not_valid(rendered: SceneBatch, tmp_path: Path) -> None:
    data = written(scannet, rendered, tmp_path)
    depth = np.asarray(Image.open(tmp_path / "depth/2.png")).copy()
    depth[:, : WIDTH // 2] = 0
    Image.fromarray(depth).save(tmp_path / "depth/2.png")
    found = posed_scenes(data, [0], VIEWS, HEIGHT, WIDTH)
    assert not found.valid[0, 2, :, : WIDTH // 2].any() and found.valid[0, 2, :, WIDTH // 2 :].all()
    assert not found.z_depth[0, 2, :, : WIDTH // 2].any()
    assert found.world_points.isfinite().all()


def test_what_cannot_train_raises(rendered: SceneBatch, tmp_path: Path) -> None:
    data = written(tum, rendered, tmp_path)
    with pytest.raises(UsageError, match="intrinsics"):
        posed_scenes(dataclasses.replace(data, intrinsics=None), [0], 2, 48, 64)
    with pytest.raises(UsageError, match="5 frames"):
        posed_scenes(data, [0], 6, 48, 64)
    with pytest.raises(UsageError, match="step"):
        PosedFolders(("a",), step=(3, 1))
    with pytest.raises(UsageError, match="share"):
        with_posed_data(tiny_config(), ["a"], 1.0)


@pytest.mark.parametrize("where", ["rgbd_dataset_freiburg1_xyz", "fr1/desk", "tum-fr1-room"])
def test_tum_sequences_have_the_published_camera(where: str, rendered: SceneBatch, tmp_path: Path) -> None:
    tum(rendered, tmp_path / where)
    plain = PosedFolders((str(tmp_path / where),), ordered=True)
    found = posed_scenes(plain, [0], VIEWS, HEIGHT, WIDTH).intrinsics[0, 0]
    # Pictures of 128x96 are a fifth of the camera's 640x480; they are cut around the principal point.
    given = (517.3 / 5, 516.5 / 5, (318.6 + 0.5) / 5, (255.3 + 0.5) / 5)
    same = posed_scenes(dataclasses.replace(plain, intrinsics=given), [0], VIEWS, HEIGHT, WIDTH)
    torch.testing.assert_close(found, same.intrinsics[0, 0])
    assert float(found[0, 0] / found[1, 1]) == pytest.approx(517.3 / 516.5, rel=1e-4)
    other = dataclasses.replace(plain, intrinsics=(100.0, 100.0, 64.0, 48.0))
    assert float(posed_scenes(other, [0], VIEWS, HEIGHT, WIDTH).intrinsics[0, 0, 0, 0]) == pytest.approx(100)


def test_the_nominal_camera_of_7_scenes_gives_way(rendered: SceneBatch, tmp_path: Path) -> None:
    seven_scenes(rendered, tmp_path)
    data = PosedFolders((str(tmp_path),), ordered=True, intrinsics=(90.0, 90.0, 64.0, 48.0))
    assert float(posed_scenes(data, [0], VIEWS, HEIGHT, WIDTH).intrinsics[0, 0, 0, 0]) == pytest.approx(90)


@pytest.mark.parametrize("name", ["afr1", "fr12", "freiburg4_x", "office"])
def test_other_names_tell_no_camera(name: str, rendered: SceneBatch, tmp_path: Path) -> None:
    tum(rendered, tmp_path / "some" / name)
    with pytest.raises(UsageError, match="freiburg1"):
        posed_scenes(PosedFolders((str(tmp_path / "some" / name),)), [0], 2, 48, 64)


def test_a_run_mixes_data_and_scenes(rendered: SceneBatch, tmp_path: Path) -> None:
    scannet(rendered, tmp_path / "private" / "scan")
    config = with_posed_data(tiny_config(steps=6), [tmp_path / "private" / "scan"], 0.5)
    assert config_from_json(config.to_json()) == config
    run(config, tmp_path / "run")
    losses = [line["losses"] for line in read_log(tmp_path / "run/log.jsonl") if "losses" in line]
    assert all(np.isfinite(list(values.values())).all() for values in losses)
    told = export_weights(tmp_path / "run", tmp_path / "w.safetensors")["recipe"]["config"]
    assert told["stages"][0]["scenes"][-1]["posed"]["folders"] == ["scan"]
    walks = tuple(
        dataclasses.replace(stage, scenes=(SceneMix(start={"path": "walk"}),)) for stage in config.stages
    )
    mixed = with_posed_data(dataclasses.replace(config, stages=walks), ["a"], 0.25)
    posed = mixed.stages[0].scenes[-1]
    assert posed.share == pytest.approx(1 / 3) and posed.posed is not None and posed.posed.ordered


def test_real_images_agree_with_each_other(shared_data: Path) -> None:
    data = PosedFolders((str(shared_data / "rgbd-redkitchen"),), step=(1, 2), ordered=True)
    found = posed_scenes(data, [0, 1], 3, 112, 112)
    for scene in range(2):
        here = found.valid[scene, 0]
        pixels, z = project(
            found.world_points[scene, 0][here], found.cam_from_world[scene, 1], found.intrinsics[scene, 1]
        )
        x, y = pixels[:, 0].floor().long(), pixels[:, 1].floor().long()
        seen = (x >= 0) & (x < 112) & (y >= 0) & (y < 112) & (z > 0)
        depth = found.z_depth[scene, 1][y[seen], x[seen]]
        off = ((depth - z[seen]).abs() / z[seen])[depth > 0]
        assert len(off) > 2000 and float(off.median()) < 0.02
