"""What is particular to single dataset formats: masks, lenses, lost frames, incomplete downloads."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from manyview.datasets import read_posed_set
from manyview.datasets.colmap_model import ColmapCamera
from manyview.datasets.depth_files import eroded
from manyview.datasets.lens_depth import distorted_pixels
from manyview.errors import InputError

from .posed_fixtures import VIEWS, WRITERS, text


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "sequences" / "07"


def test_masks_of_dtu_are_eroded(folder: Path) -> None:
    WRITERS["dtu"](folder)
    found = read_posed_set(folder)
    assert found.unit == "mm"
    for index in (0, 1):  # .npy and .pfm
        depth = found.depth.read(index)
        # The mask ends before column 20; a window of ten whose anchor is 5 reaches 4 columns further.
        np.testing.assert_allclose(depth[2:, :16], index + 1)
        assert np.isnan(depth[:, 16:]).all() and np.isnan(depth[0]).all()


def test_erosion_is_the_minimum_over_a_window() -> None:
    mask = np.random.default_rng(0).random((17, 23)) > 0.02
    padded = np.pad(mask, ((5, 4), (5, 4)), constant_values=True)
    expected = np.array([[padded[i : i + 10, j : j + 10].all() for j in range(23)] for i in range(17)])
    np.testing.assert_array_equal(eroded(mask, 10), expected)


def test_depth_of_eth3d_goes_through_the_lens(folder: Path) -> None:
    WRITERS["eth3d"](folder)
    found = read_posed_set(folder)
    depth = found.depth.select([2]).read(0)
    assert depth.shape == (24, 32)
    # The lens is an equidistant fisheye, so rays land nearer to the centre than in the flat image.
    assert np.isnan(depth[:4]).sum() > 64 and np.nanmax(depth) == np.nanmin(depth) == 3.0
    (folder / "ground_truth_depth" / "dslr_images" / "DSC_0001.JPG").write_bytes(b"1234")
    with pytest.raises(InputError, match="64x48"):
        found.depth.read(1)


def test_the_thin_prism_lens_by_hand() -> None:
    lens = ColmapCamera(
        "THIN_PRISM_FISHEYE", 100, 80, (50, 60, 49, 41, 0.1, 0.02, 0.003, 0.004, 0.5, 0.6, 0.07, 0.08)
    )
    radius = np.hypot(0.3, -0.4)
    u, v = np.arctan(radius) / radius * np.array([0.3, -0.4])
    r2 = u * u + v * v
    radial = 0.1 * r2 + 0.02 * r2**2 + 0.5 * r2**3 + 0.6 * r2**4
    x = u + u * radial + 2 * 0.003 * u * v + 0.004 * (r2 + 2 * u * u) + 0.07 * r2
    y = v + v * radial + 2 * 0.004 * u * v + 0.003 * (r2 + 2 * v * v) + 0.08 * r2
    found = distorted_pixels(np.array([[0.3, -0.4], [0.0, 0.0]]), lens)
    np.testing.assert_allclose(found, [[50 * x + 49, 60 * y + 41], [49, 41]])


def test_projected_depth_of_seven_scenes_is_preferred(folder: Path) -> None:
    WRITERS["7-scenes"](folder)
    assert read_posed_set(folder).intrinsics[0, 0, 0] == 585
    for path in folder.glob("*.depth.png"):
        shutil.copy(path, path.with_name(path.name.replace(".depth.png", ".depth.proj.png")))
        path.unlink()
    found = read_posed_set(folder)
    assert found.intrinsics[0, 0, 0] == 525 and found.depth.read(1)[5, 5] == 2.0


@pytest.mark.parametrize("kind", ["scannet", "nrgbd"])
def test_lost_frames_are_left_out(kind: str, folder: Path) -> None:
    WRITERS[kind](folder)
    if kind == "scannet":
        text(folder / "pose" / "2.txt", np.full((4, 4), -np.inf))
    else:
        table = np.loadtxt(folder / "poses.txt")
        table[8:12] = np.nan
        text(folder / "poses.txt", table)
    found = read_posed_set(folder)
    assert len(found) == VIEWS - 1 and found.notes == ("1 frames without a camera left out",)
    assert found.depth.read(2)[5, 5] == 4.0  # frame 3 follows frame 1


def test_images_not_downloaded_are_in_the_notes(folder: Path) -> None:
    WRITERS["realestate10k"](folder)
    (folder / "9000000.png").unlink()
    found = read_posed_set(folder)
    assert len(found) == VIEWS - 1 and found.notes == ("1 of 5 frames are not downloaded",)
    assert found.unit == "units"


def test_cameras_of_realestate_beside_a_frames_folder(tmp_path: Path) -> None:
    folder = tmp_path / "frames" / "test" / "00ab"
    WRITERS["realestate10k"](folder)
    (tmp_path / "test").mkdir()
    (folder.parent / "00ab.txt").rename(tmp_path / "test" / "00ab.txt")
    assert len(read_posed_set(folder)) == VIEWS


def _missing(kind: str, folder: Path) -> str:
    gone = {
        "scannet": folder / "pose" / "3.txt",
        "sintel": folder.parent.parent / "camdata_left" / "07" / "frame_0002.cam",
        "dtu": folder / "cams" / "00000003_cam.txt",
    }
    gone[kind].unlink()
    return gone[kind].name


@pytest.mark.parametrize("kind", ["scannet", "sintel", "dtu"])
def test_a_missing_camera_file_is_named(kind: str, folder: Path) -> None:
    WRITERS[kind](folder)
    name = _missing(kind, folder)
    with pytest.raises(InputError, match=re.escape(name)):
        read_posed_set(folder)


def test_damaged_files_are_named(folder: Path) -> None:
    WRITERS["colmap binary"](folder)
    path = folder / "sparse" / "0" / "images.bin"
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(InputError, match=re.escape(str(path.parent))):
        read_posed_set(folder)
    WRITERS["co3d"](folder.parent.parent / "apple" / "1")
    (folder.parent.parent / "apple" / "frame_annotations.jgz").write_bytes(b"not gzip")
    with pytest.raises(InputError, match=r"\.jgz"):
        read_posed_set(folder.parent.parent / "apple" / "1")


@pytest.mark.parametrize(
    ("file", "change"),
    [
        ("cameras.txt", ("64 48", "0 0")),
        ("cameras.txt", ("60 62", "nan 62")),
        ("cameras.txt", ("60 62", "0 62")),
        ("images.txt", ("translation", "1e300 1e300 1e300")),
    ],
)
def test_impossible_cameras_of_a_colmap_model_are_refused(folder: Path, file: str, change) -> None:
    WRITERS["colmap"](folder)
    path = folder / "sparse" / "0" / file
    text = path.read_text()
    if file == "images.txt":
        words = next(line for line in text.splitlines() if line.endswith(".jpg")).split()
        change = (" ".join(words[5:8]), change[1])
    assert change[0] in text
    path.write_text(text.replace(change[0], change[1], 1))
    with pytest.raises(InputError, match=re.escape(str(path.parent))):
        read_posed_set(folder)


def test_a_distorted_colmap_model_says_so(folder: Path) -> None:
    WRITERS["colmap"](folder)
    path = folder / "sparse" / "0" / "cameras.txt"
    path.write_text("1 SIMPLE_RADIAL 64 48 60 32 24 0.1\n")
    found = read_posed_set(folder)
    assert "distorted" in found.notes[0] and found.intrinsics[0, 0, 0] == 30
    (folder / "images" / "4.jpg").unlink()
    assert "1 images of the model are not there" in read_posed_set(folder).notes[0]


# Against real data.


def test_the_colmap_model_of_real_photographs(shared_data: Path) -> None:
    found = read_posed_set(shared_data / "photos-lund-door-colmap")
    assert found.format == "colmap" and len(found) == 12
    np.testing.assert_allclose(
        found.intrinsics[0], [[2435.38, 0, 648], [0, 2435.38, 968], [0, 0, 1]], atol=0.01
    )
    # Points of the model project into the images and lie before the cameras.
    lines = (shared_data / "photos-lund-door-colmap/sparse/points3D.txt").read_text().splitlines()
    rows = [line.split() for line in lines]
    points = np.array([[float(v) for v in row[1:4]] for row in rows if row[0] != "#"])[:500]
    for index in (0, 7):
        moved = points @ found.cam_from_world[index][:, :3].T + found.cam_from_world[index][:, 3]
        assert (moved[:, 2] > 0).all()
        pixels = moved @ found.intrinsics[index].T
        inside = (pixels[:, :2] / pixels[:, 2:] > 0) & (pixels[:, :2] / pixels[:, 2:] < [1296, 1936])
        assert inside.all(1).mean() > 0.5


def test_real_frames_in_the_layout_of_scannet(shared_data: Path, tmp_path: Path) -> None:
    kitchen = shared_data / "rgbd-redkitchen"
    poses = np.loadtxt(kitchen / "poses.txt").reshape(-1, 4, 4)
    scan = tmp_path / "scene0000_00"
    for name in ("color", "depth"):
        (scan / name).mkdir(parents=True)
    k = np.eye(4)
    k[:3, :3] = np.loadtxt(kitchen / "intrinsics.txt")
    text(scan / "intrinsic" / "intrinsic_color.txt", k)
    for index, path in enumerate(sorted((kitchen / "color").iterdir())[:3]):
        (scan / "color" / f"{index}.jpg").symlink_to(path)
        (scan / "depth" / f"{index}.png").symlink_to(kitchen / "depth" / f"{path.stem}.png")
        text(scan / "pose" / f"{index}.txt", poses[index])
    found, plain = read_posed_set(scan), read_posed_set(kitchen)
    np.testing.assert_allclose(found.cam_from_world, plain.cam_from_world[:3], atol=1e-9)
    np.testing.assert_allclose(found.intrinsics, plain.intrinsics[:3])
    np.testing.assert_array_equal(found.depth.read(1), plain.depth.read(1))
    with Image.open(found.images[0]) as image:
        assert image.size == (640, 480)
