"""SpatialBench: five cameras in its layout come back, encodings of depth, and the frames of its loader."""

from __future__ import annotations

import dataclasses
import json
import math
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from manyview.datasets import dataset_named, read_posed_set
from manyview.datasets.fixed_frames import Undistortion, fixed_frame
from manyview.datasets.posed_set import PosedSet
from manyview.datasets.spatialbench_depth import EncodedDepth
from manyview.errors import InputError
from manyview.geometry.unproject_np import invert_rigid

from .posed_fixtures import VIEWS, square, world_from_cam, write_depth, write_image

K = np.array([[30, 0, 15.5], [0, 31, 11.5], [0, 0, 1]], dtype=np.float32)


def write_scene(folder: Path, meta: dict | None = None, values: np.ndarray | None = None) -> None:
    """The five cameras at 1, 2, ... metres; names of depth do not follow those of the images."""
    for i, matrix in enumerate(square(world_from_cam()).astype(np.float32)):
        write_image(folder / "images" / f"{i}.png", i)
        own = 1000 * (i + 1) * np.ones((24, 32)) if values is None else values
        write_depth(folder / "depths" / f"d{i:04}.png", own)
        (folder / "poses").mkdir(exist_ok=True)
        np.save(folder / "poses" / f"{i:06}.npy", matrix if i % 2 else matrix[:3])
    (folder / "intrinsics").mkdir()
    np.save(folder / "intrinsics" / "intrinsic.npy", K)
    written = {"depth_format": "uint16_png_div1000", "tags": {}, "frame_indices": [1, 2, 3, 5, 8]}
    (folder / "meta.json").write_text(json.dumps(written | (meta or {})))


def frames_of(posed: PosedSet, folder: Path, width: int = 518, patch: int = 14) -> PosedSet:
    folder.mkdir(exist_ok=True)
    assert posed.frames is not None
    return posed.frames.write(posed, folder, width, patch)


def mask(path: Path, values: np.ndarray) -> None:
    path.parent.mkdir(exist_ok=True)
    Image.fromarray(values).save(path)


@pytest.fixture
def scene(tmp_path: Path) -> Path:
    return tmp_path / "sparse" / "tum" / "freiburg1_room" / "0"


def test_the_cameras_of_a_scene_come_back(scene: Path) -> None:
    write_scene(scene)
    found = read_posed_set(scene)
    assert found.format == "spatialbench" and found.name == "tum/freiburg1_room/0" and found.unit == "m"
    np.testing.assert_allclose(found.cam_from_world, invert_rigid(world_from_cam()), atol=1e-6)
    np.testing.assert_allclose(found.intrinsics[3], [[30, 0, 16], [0, 31, 12], [0, 0, 1]])
    assert [found.depth.read(i)[3, 3] for i in range(4)] == [1, 2, 3, 4]
    assert found.depth.select([2]).read(0)[0, 0] == 3


def test_scenes_lie_at_any_depth_and_keep_their_source(scene: Path, tmp_path: Path) -> None:
    write_scene(scene)
    write_scene(scene.parents[2] / "eth3d" / "terrains")
    dataset = dataset_named("spatialbench")
    names = {one.name: one.group for one in dataset.scenes(tmp_path / "sparse")}
    assert names == {"tum/freiburg1_room/0": "tum", "eth3d/terrains": "eth3d"}
    assert [one.name for one in dataset.scenes(tmp_path / "sparse", only=["eth3d"])] == ["eth3d/terrains"]
    with pytest.raises(InputError, match=r"15 of 17 .*7scenes"):
        dataset.scenes(tmp_path / "sparse", "sparse")
    assert len(dataset.split("single")) == 18 and len(dataset.split("dense")) == 15


def test_images_are_in_the_order_of_their_names_as_text(scene: Path) -> None:
    write_scene(scene)
    for old, new in (("0", "10"), ("1", "9")):
        (scene / "images" / f"{old}.png").rename(scene / "images" / f"{new}.png")
    assert [image.stem for image in read_posed_set(scene).images] == ["10", "2", "3", "4", "9"]


def test_intrinsics_of_each_frame(scene: Path) -> None:
    write_scene(scene, {"intrinsic_mode": "per_frame"})
    for i in range(VIEWS):
        np.save(scene / "intrinsics" / f"{i:06}.npy", K * [[1 + i], [1], [1]])
    assert read_posed_set(scene).intrinsics[:, 0, 0].tolist() == [30, 60, 90, 120, 150]


@pytest.mark.parametrize(
    ("gone", "named"),
    [
        ("meta.json", r"meta\.json"),
        ("images/3.png", "4 images of 5 frames"),
        ("depths/d0002.png", "depths.*4 files for 5"),
        ("poses/000001.npy", "poses.*4 files for 5"),
        ("intrinsics/intrinsic.npy", r"intrinsic\.npy"),
    ],
)
def test_partial_downloads_are_named(scene: Path, gone: str, named: str) -> None:
    write_scene(scene)
    (scene / gone).unlink()
    with pytest.raises(InputError, match=named):
        read_posed_set(scene)


def test_damaged_files_are_named(scene: Path) -> None:
    write_scene(scene, {"depth_format": "uint16_png_div7"})
    with pytest.raises(InputError, match=r"meta\.json.*uint16_png_div7"):
        read_posed_set(scene)
    write_meta = scene / "meta.json"
    write_meta.write_text('{"depth_format": 3}')
    with pytest.raises(InputError, match=r"meta\.json.*depth_format"):
        read_posed_set(scene)
    write_meta.write_text('{"depth_format": "uint16_png_div1000"}')
    (scene / "poses" / "000002.npy").write_bytes(b"no numbers")
    with pytest.raises(InputError, match=r"000002\.npy"):
        read_posed_set(scene)
    np.save(scene / "poses" / "000002.npy", np.eye(3))
    with pytest.raises(InputError, match=r"000002\.npy.*3x4"):
        read_posed_set(scene)


def test_a_scene_without_poses_has_no_cameras(scene: Path) -> None:
    write_scene(scene, {"pose": "none"})
    assert np.isnan(dataset_named("spatialbench").reader(scene).cam_from_world).all()


@pytest.mark.parametrize(
    ("form", "stored", "metres"),
    [
        ("uint16_png_div1000_rectified", 2500, 2.5),
        ("uint16_png_div100", 250, 2.5),
        ("uint16_png_div100", 65500, math.nan),
        ("uint16_png_div_655.35", 13107, 20),
        ("uint16_png_inverse_encoded", 6554, 3 * (6554 / 65535) / (1000 - 999 * (6554 / 65535)) / 0.004),
        ("uint16_png_inverse_encoded", 98, math.nan),
        ("uint16_png_inverse_encoded", 65501, math.nan),
    ],
)
def test_encodings_of_depth(tmp_path: Path, form: str, stored: int, metres: float) -> None:
    write_depth(tmp_path / "0.png", np.full((4, 5), stored))
    nothing = {name: (None,) for name in ("skies", "confidences", "frames")}
    depth = EncodedDepth((tmp_path / "0.png",), form=form, metric_scale=3.0, masks=((),), **nothing)
    np.testing.assert_allclose(depth.read(0), np.full((4, 5), metres))


def test_floating_point_depth(scene: Path) -> None:
    write_scene(scene, {"depth_format": "float32_binary_meters_24x32"})
    for path in (scene / "depths").iterdir():
        np.full((24, 32), 1.25, dtype="<f4").tofile(path)
    assert read_posed_set(scene).depth.read(1)[0, 0] == 1.25
    (scene / "depths" / "d0001.png").write_bytes(b"1234")
    with pytest.raises(InputError, match=r"d0001\.png.*24x32"):
        read_posed_set(scene).depth.read(1)


def test_masks_and_the_limit_of_a_source(scene: Path) -> None:
    values = np.full((24, 32), 2000)
    values[0], values[1] = 0, 5001  # nothing; beyond the 5 m of TUM
    write_scene(scene, values=values)
    for i in range(VIEWS):
        masks = {name: np.ones((24, 32), dtype=np.uint8) for name in ("depth_masks", "aliasing_masks")}
        masks["depth_masks"][2], masks["aliasing_masks"][3] = 0, 0
        masks["sky_masks"] = np.zeros((24, 32), dtype=np.uint8)
        masks["sky_masks"][4] = 1
        masks["conf_masks"] = np.full((24, 32), 32768, dtype=np.uint16)
        masks["conf_masks"][5] = 32767
        for name, one in masks.items():
            mask(scene / name / f"{i}.png", one)
    depth = read_posed_set(scene).depth.read(0)
    assert np.isnan(depth[:6]).all() and (depth[6:] == 2).all()


def test_only_the_nearest_depth_of_ropedia_counts(tmp_path: Path) -> None:
    folder = tmp_path / "medium" / "ropedia" / "walk"
    values = np.arange(1, 24 * 32 + 1).reshape(24, 32)
    values[:2] = 0  # zeros are among what the percentile is of
    write_scene(folder, values=values)
    depth = read_posed_set(folder).depth.read(0)
    limit = np.percentile(values, 80) / 1000
    assert np.isfinite(depth).sum() == ((values / 1000 <= limit) & (values > 0)).sum()


def test_the_truth_of_a_scene_is_the_nearest_cloud_above_it(scene: Path, tmp_path: Path) -> None:
    write_scene(scene)
    clouds = tmp_path / "pointcloud" / "tum"
    (clouds / "other").mkdir(parents=True)
    for name in ("a.ply", "freiburg1_room.ply"):
        (clouds / name).write_bytes(b"ply")
    assert read_posed_set(scene).cloud == clouds / "freiburg1_room.ply"
    (clouds / "freiburg1_room").mkdir()
    (clouds / "freiburg1_room" / "b0.ply").write_bytes(b"ply")
    (clouds / "freiburg1_room" / "a.ply").write_bytes(b"ply")
    # "0" is all digits, so the first file it is.
    assert read_posed_set(scene).cloud == clouds / "freiburg1_room" / "a.ply"


def test_frames_by_hand() -> None:
    """640x480 to 518x392: the centre of 522x392; first a cut that makes the principal point the centre."""
    k = np.array([[500.0, 0, 320.5], [0, 500, 240.5], [0, 0, 1]])
    frame = fixed_frame((640, 480), (518, 392), k)
    assert frame.box == (0, 0, 640, 480) and frame.scaled == (522, 392) and frame.corner == (2, 0)
    scale = 392 / 480 + 1e-8
    cut = (640 * scale - 522) / 2 + 2
    np.testing.assert_allclose(frame.intrinsics(k)[0], [500 * scale, 0, 320.5 * scale - cut])
    off = np.array([[500.0, 0, 310.2], [0, 500, 250.9], [0, 0, 1]])
    frame = fixed_frame((640, 480), (518, 392), off)  # at (309.7, 250.4) by whole numbers
    assert frame.box == (0, 20, 620, 480)
    edge = np.array([[500.0, 0, 100.5], [0, 500, 240.5], [0, 0, 1]])
    assert fixed_frame((640, 480), (518, 392), edge).box == (0, 0, 640, 480)


def test_frames_show_each_point_where_their_camera_sees_it(scene: Path, tmp_path: Path) -> None:
    """Image, depth and intrinsics move together: the ray of a block is the same before and after."""
    write_scene(scene)
    size, block = (320, 240), (200, 90)
    image, depth = np.zeros((240, 320, 3), dtype=np.uint8), np.full((240, 320), 1000)
    image[block[1] - 8 : block[1] + 8, block[0] - 8 : block[0] + 8] = 255
    depth[block[1] - 8 : block[1] + 8, block[0] - 8 : block[0] + 8] = 3000
    k = np.array([[300, 0, 149.2], [0, 310, 128.4], [0, 0, 1]], dtype=np.float32)
    np.save(scene / "intrinsics" / "intrinsic.npy", k)
    for i in range(VIEWS):
        Image.fromarray(image).save(scene / "images" / f"{i}.png")
        write_depth(scene / "depths" / f"d{i:04}.png", depth)
    posed = read_posed_set(scene)
    ray = [(block[axis] - posed.intrinsics[0, axis, 2]) / posed.intrinsics[0, axis, axis] for axis in (0, 1)]
    for width, patch, expected in ((518, 14, (518, 392)), (512, 16, (512, 384)), (60, 14, (56, 42))):
        found = frames_of(posed, tmp_path / f"{width}", width, patch)
        pixels = np.asarray(Image.open(found.images[0]))[..., 0]
        assert pixels.shape == expected[::-1] == found.depth.read(0).shape
        for weights in (pixels.astype(float), (found.depth.read(0) == 3).astype(float)):
            y, x = np.mgrid[: expected[1], : expected[0]] + 0.5
            at = [(weights * one).sum() / weights.sum() for one in (x, y)]
            seen = [(at[a] - found.intrinsics[0, a, 2]) / found.intrinsics[0, a, a] for a in (0, 1)]
            np.testing.assert_allclose(seen, ray, atol=0.6 / found.intrinsics[0, 0, 0])
    assert size == posed.depth.read(0).shape[::-1]


def test_mirrored_frames_of_rlbench(tmp_path: Path) -> None:
    folder = tmp_path / "sparse" / "rlbench" / "close_jar"
    flips = [{"basename": "1", "flip_lr": True, "flip_ud": False}, {"basename": "2", "flip_ud": True}]
    write_scene(folder, {"pyrep_flip": flips})
    for i in range(VIEWS):
        values = np.add.outer(np.arange(24), 100 * np.arange(32)) + 1
        write_depth(folder / "depths" / f"d{i:04}.png", values)
    k = K.copy()
    k[0, 2], k[1, 2] = 10, 13
    np.save(folder / "intrinsics" / "intrinsic.npy", k)
    posed = read_posed_set(folder)
    assert "2 images are stored mirrored" in posed.notes[0]
    found = frames_of(posed, tmp_path / "frames", 56)
    depth = [found.depth.read(i) for i in range(3)]
    assert (np.diff(depth[0], axis=1) >= 0).all() and (np.diff(depth[1], axis=1) <= 0).all()
    assert (np.diff(depth[0], axis=0) >= 0).all() and (np.diff(depth[2], axis=0) <= 0).all()
    # By whole numbers (W - 1) - cx, so (11, 13) of which 11 are on the shorter side.
    frame = fixed_frame((32, 24), (56, 42), posed.intrinsics[1], (True, False))
    assert frame.box == (10, 2, 32, 24) and frame.intrinsics(posed.intrinsics[1])[0, 2] > 28
    plain = dataclasses.replace(frame, mirrored=(False, False), box=(0, 2, 22, 24))
    stored = posed.images[1]
    images = [np.asarray(one.image(stored)).astype(int) for one in (frame, plain)]
    assert np.abs(images[0] - images[1][:, ::-1]).max() <= 2


def test_distorted_images_of_scannetpp(tmp_path: Path) -> None:
    folder = tmp_path / "sparse" / "scannetpp" / "0a7cc12c0e"
    write_scene(folder, {"image_state": "distorted_original"})
    with pytest.raises(InputError, match=r"distortion_coeffs\.npy"):
        read_posed_set(folder)
    np.save(folder / "intrinsics" / "distortion_coeffs.npy", np.array([0.1, 0.01, 0.002, 0.003]))
    np.save(folder / "intrinsics" / "K_distorted.npy", K)
    assert "distorted" in read_posed_set(folder).notes[0]
    found = frames_of(read_posed_set(folder), tmp_path / "frames", 56)
    assert len(found.images) == VIEWS


def test_undistortion_by_hand() -> None:
    """A ramp as the lens shows it: the pinhole's pixel has the ramp's value where the model sends its ray."""
    k = np.array([[40.0, 0, 32], [0, 44, 24], [0, 0, 1]])
    lens = np.array([[38.0, 0, 30], [0, 41, 25], [0, 0, 1]])
    ramp = np.repeat((np.arange(64) * 3).astype(np.uint8)[None, :, None], 48, 0).repeat(3, 2)
    found = Undistortion(k, lens, (0.1, -0.05, 0.01, 0.02, 0.003)).apply(ramp)
    x, y = (20.5 - 32) / 40, (30.5 - 24) / 44
    r2 = x * x + y * y
    u = x * (1 + 0.1 * r2 - 0.05 * r2**2 + 0.003 * r2**3) + 2 * 0.01 * x * y + 0.02 * (r2 + 2 * x * x)
    assert found[30, 20, 0] == pytest.approx(3 * (38 * u + 30 - 0.5), abs=0.6)
    np.testing.assert_array_equal(Undistortion(k, k, (0.0,) * 4).apply(ramp), ramp)
