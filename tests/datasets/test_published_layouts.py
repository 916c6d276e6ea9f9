"""Layouts that papers' scripts prepare, and what their readers must tell apart."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from manyview.datasets import dataset_named, read_posed_set
from manyview.errors import InputError
from manyview.evaluate.protocols.frames import Frames
from manyview.evaluate.protocols.published import PROTOCOLS
from manyview.evaluate.runner.chosen_frames import chosen_frames

from .fixture_files import VIEWS, text, write_depth, write_image
from .posed_fixtures import write_bonn, write_scannet, write_tum
from .published_layouts import write_re10k_pi3, write_scannet_90, write_tum_90


@pytest.mark.parametrize(("write", "kind"), [(write_scannet_90, "scannet"), (write_tum_90, "tum")])
def test_every_third_frame_was_prepared(write, kind: str, tmp_path: Path) -> None:
    write(tmp_path / "scene")
    found = read_posed_set(tmp_path / "scene")
    assert found.format == kind and found.positions == (0, 3, 6, 9, 12)
    assert found.select([1, 4]).positions == (3, 12)


def test_strides_of_protocols_are_those_of_the_sequence_itself(tmp_path: Path) -> None:
    write_scannet_90(tmp_path / "scene0000_00")
    write_tum_90(tmp_path / "rgbd_dataset_freiburg3_sitting_xyz")
    for name in ("scannet", "tum"):
        data = dataset_named(name)
        scenes = data.scenes(tmp_path)
        for protocol, rule, used in (
            ("pi3-trajectory", None, [0, 1, 2, 3, 4]),
            ("long-trajectory", None, [0, 1, 2, 3, 4]),
            ("default", None, [0, 1, 2, 3, 4]),
            ("pi3-trajectory", Frames("every", 6), [0, 2, 4]),
            ("pi3-trajectory", Frames("every", 3, most=2), [0, 1]),
            ("pi3-trajectory", Frames("every", 5, first=3), [1]),
            ("default", Frames(most=2), [0, 4]),
        ):
            protocol = PROTOCOLS[protocol]
            rule = rule or protocol.frames_of(name)
            ((chosen, total),) = chosen_frames(data, tmp_path, protocol, scenes, rule)
            assert total == VIEWS and chosen.positions == tuple(3 * i for i in used), (name, rule)


def test_the_original_of_a_scan_goes_before_what_was_prepared_from_it(tmp_path: Path) -> None:
    write_scannet_90(tmp_path)
    text(tmp_path / "pose_90.txt", np.full((VIEWS, 16), -np.inf))
    with pytest.raises(InputError, match="color_90"):
        read_posed_set(tmp_path)  # not one camera is known
    write_scannet(tmp_path)
    found = read_posed_set(tmp_path)
    assert found.positions is None and len(found) == VIEWS
    text(tmp_path / "pose_90.txt", np.zeros((3, 16)))
    (tmp_path / "color").rename(tmp_path / "elsewhere")
    with pytest.raises(InputError, match=r"pose_90\.txt: has 3 cameras"):
        read_posed_set(tmp_path)


def test_prepared_frames_of_bonn_have_depth_and_no_cameras(tmp_path: Path) -> None:
    folder = tmp_path / "rgbd_bonn_crowd2"
    write_bonn(folder)
    for name in ("rgb", "depth"):
        (folder / name).rename(folder / f"{name}_110")
    (folder / "groundtruth.txt").rename(folder / "groundtruth_110.txt")
    dataset = dataset_named("bonn")
    (scene,) = dataset.scenes(tmp_path)
    found = dataset.read(scene, every_image=True)
    assert found.positions == tuple(range(30, 30 + VIEWS)) and np.isnan(found.cam_from_world).all()
    assert [found.depth.read(i)[5, 5] for i in range(VIEWS)] == [1.0, 2.0, 3.0, 4.0, 5.0]
    with pytest.raises(InputError, match="rgb_110"):
        dataset.read(scene)


def test_depth_of_scannet_is_of_the_depth_camera(tmp_path: Path) -> None:
    """A tilted plane, seen by a depth camera of other intrinsics, is that plane for the colour camera."""
    write_scannet(tmp_path)
    slope = np.array([0.3, -0.2])  # 1 / z = 0.5 + slope . (x / z, y / z)
    own = np.array([[40.0, 0, 20.5, 0], [0, 44, 14.5, 0], [0, 0, 1, 0], [0, 0, 0, 1]])
    text(tmp_path / "intrinsic" / "intrinsic_depth.txt", own)

    def plane(k: np.ndarray, height: int, width: int) -> np.ndarray:
        x, y = np.meshgrid(np.arange(width), np.arange(height))
        return 1 / (0.5 + slope[0] * (x - k[0, 2]) / k[0, 0] + slope[1] * (y - k[1, 2]) / k[1, 1])

    for i in range(VIEWS):
        write_depth(tmp_path / "depth" / f"{i}.png", 1000 * plane(own, 30, 42))
    found = read_posed_set(tmp_path)
    depth = found.depth.select([1]).read(0)
    assert depth.shape == (24, 32)
    expected = plane(np.array([[30.0, 0, 15.5], [0, 31, 11.5], [0, 0, 1]]), 24, 32)
    there = np.isfinite(depth)
    # Of the nearest pixel of a map that is as fine.
    np.testing.assert_allclose(depth[there], expected[there], rtol=0.02)
    assert there.mean() > 0.7 and np.abs(plane(own, 24, 32) - expected)[there].max() > 0.1


@pytest.mark.parametrize(
    ("name", "focal", "centre"),
    [("rgbd_dataset_freiburg1_desk", 517.3, 319.1), ("fr3_walking_xyz", 535.4, 320.6), ("mine", None, None)],
)
def test_intrinsics_of_tum_are_the_published_ones(
    name: str, focal: float | None, centre: float | None, tmp_path: Path
) -> None:
    folder = tmp_path / name
    write_tum(folder)
    for path in (folder / "rgb").iterdir():
        write_image(path, 1, (320, 240))
    k = read_posed_set(folder).intrinsics
    assert k is None if focal is None else k[3, 0].tolist() == pytest.approx([focal / 2, 0, centre / 2])
    for path in (folder / "rgb").iterdir():
        write_image(path, 1, (320, 200))
    assert read_posed_set(folder).intrinsics is None


@pytest.mark.parametrize("folder", ["rgb_90", "color_90"])
def test_a_preparation_without_its_cameras_is_no_scene(folder: str, tmp_path: Path) -> None:
    write_image(tmp_path / "scene" / folder / "0.png", 0)
    with pytest.raises(InputError, match=re.escape(str(tmp_path / "scene"))):
        read_posed_set(tmp_path / "scene")


def test_annotations_of_realestate_name_images_inside_of_the_root(tmp_path: Path) -> None:
    write_re10k_pi3(tmp_path / "000c3ab189999a83")
    write_re10k_pi3(tmp_path / "3b0b55657925fb34")
    data = dataset_named("realestate10k")
    # Videos vanish: an evaluation takes what is there, and says so.
    protocol = PROTOCOLS["pi3-pose"]
    scenes = data.scenes(tmp_path, "test1719")
    assert [scene.name for scene in scenes] == ["000c3ab189999a83", "3b0b55657925fb34"]
    (one, _), _ = chosen_frames(data, tmp_path, protocol, scenes, Frames("random", most=3))
    assert "2 scenes" in one.notes[0]
    (tmp_path / scenes[0].name / "images" / "0003.png").unlink()
    assert data.read(scenes[0]).notes == ("1 of 5 frames are not downloaded",)
    path = tmp_path / scenes[0].name / "annotations.json"
    path.write_text(path.read_text().replace(scenes[0].name, "../elsewhere", 1))
    with pytest.raises(InputError, match=r"annotations\.json.*elsewhere"):
        data.read(scenes[0])
    path.write_text("[{}]")
    with pytest.raises(InputError, match=r"annotations\.json"):
        data.read(scenes[0])
