"""The verdict on a result: what it calls good and bad on a room whose depth and cameras are known."""

from __future__ import annotations

import dataclasses
import json
import time
import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from manyview import Reconstruction, load_reconstruction, reconstruct
from manyview.geometry.unproject_np import camera_centres
from manyview.reconstruction.inputs.views import ViewRecord
from manyview.reconstruction.quality.verdict import GRADES, assess_quality
from manyview.synthetic.demo import demo_scene
from tests.analytic_scene import crop_transform, fit_transform, pad_transform, room_scene

VIEWS = 8


@pytest.fixture(scope="module")
def scene() -> Reconstruction:
    return room_scene([fit_transform((320, 240), (112, 84))] * VIEWS)[0]


def _moved(scene: Reconstruction, order: np.ndarray) -> Reconstruction:
    return dataclasses.replace(scene, cam_from_world=scene.cam_from_world[order])


def test_a_perfect_result_is_good(scene: Reconstruction) -> None:
    quality = assess_quality(scene)
    figures = quality["figures"]
    assert quality["grade"] == "good"
    assert quality["weak_views"] == []
    assert figures["confirmed_share"] > 0.95
    assert figures["image_offset_px"] < 4  # two pixels of the small images that are searched
    assert figures["focal_spread"] == pytest.approx(0, abs=1e-9)
    assert figures["focal_to_exif"] is None


@pytest.mark.parametrize("centres", ["half", "integer"])
def test_crops_and_padding_do_not_matter(centres: str) -> None:
    transforms = [fit_transform((320, 240), (112, 84)), pad_transform((300, 300), (112, 84))]
    transforms += [crop_transform((300, 300), (112, 84)), pad_transform((240, 320), (112, 84))]
    scene, _ = room_scene(transforms * 2, [f"{i}.png" for i in range(8)], pixel_centres="half")
    if centres == "integer":  # what upstream casts half a pixel off, exactly so
        intrinsics = scene.intrinsics.copy()
        intrinsics[:, :2, 2] -= 0.5
        scene = dataclasses.replace(scene, intrinsics=intrinsics, pixel_centres="integer")
    quality = assess_quality(scene)
    assert quality["grade"] == "good", quality
    assert quality["figures"]["depth_agreement"] > 0.85


def test_cameras_shuffled_between_views_are_bad(scene: Reconstruction) -> None:
    assert assess_quality(_moved(scene, np.roll(np.arange(VIEWS), 3)))["grade"] == "bad"


def test_more_noise_never_means_a_better_score(scene: Reconstruction) -> None:
    rng = np.random.default_rng(0)
    noise = rng.standard_normal((VIEWS, 3))
    scores = []
    for size in (0.0, 0.1, 0.4):
        centres = camera_centres(scene.cam_from_world) + size * noise
        rotation = scene.cam_from_world[:, :, :3]
        cameras = np.concatenate([rotation, -rotation @ centres[..., None]], axis=-1)
        scores.append(assess_quality(dataclasses.replace(scene, cam_from_world=cameras))["figures"]["score"])
    assert scores[0] > scores[1] > scores[2]


def test_a_view_of_another_scale_has_little_support(scene: Reconstruction) -> None:
    depth = scene.z_depth.copy()
    depth[2] *= 1.3
    depth[5] *= 0.77
    quality = assess_quality(dataclasses.replace(scene, z_depth=depth))
    assert quality["weak_views"] == [scene.names[2], scene.names[5]]
    assert scene.names[2] in quality["sentence"]


def test_bad_depth_under_refined_cameras_is_no_verdict_on_the_cameras(scene: Reconstruction) -> None:
    depth = scene.z_depth * np.linspace(0.6, 1.6, VIEWS, dtype=scene.z_depth.dtype)[:, None, None]
    sentences = [
        assess_quality(dataclasses.replace(scene, z_depth=depth, refinement=refinement))["sentence"]
        for refinement in (None, {"accepted": False}, {"accepted": True})
    ]
    assert sentences[0] == sentences[1] and "cameras or depth" in sentences[0]
    assert "cameras or depth" not in sentences[2]


def test_cameras_at_one_place_are_not_good(scene: Reconstruction) -> None:
    """Depth and cameras of it agree with each other perfectly."""
    one = np.repeat(scene.cam_from_world[:1], VIEWS, 0)
    flat = dataclasses.replace(scene, cam_from_world=one, z_depth=np.ones_like(scene.z_depth))
    quality = assess_quality(flat)
    assert quality["figures"]["confirmed_share"] == 1
    assert quality["grade"] == "bad"


def test_views_of_one_still_camera_are_at_most_doubtful(scene: Reconstruction) -> None:
    rows = [0] * VIEWS
    names = ("images", "cam_from_world", "intrinsics", "z_depth")
    still = dataclasses.replace(scene, **{name: getattr(scene, name)[rows] for name in names})
    assert assess_quality(still)["grade"] in ("doubtful", "bad")


@pytest.mark.parametrize("size", [1e-30, 1e-6, 1e9, 1e36])
def test_extreme_numbers_have_a_verdict(scene: Reconstruction, size: float) -> None:
    depth, cameras = scene.z_depth.copy(), scene.cam_from_world.copy()
    depth[1] = size
    cameras[2, :, 3] *= size
    quality = assess_quality(dataclasses.replace(scene, z_depth=depth, cam_from_world=cameras))
    assert quality["grade"] in GRADES
    assert scene.names[1] in quality["weak_views"]
    json.dumps(quality, allow_nan=False)


def test_one_view_has_no_grade() -> None:
    quality = assess_quality(room_scene(views=1)[0])
    assert quality["grade"] is None
    assert quality["sentence"]


def test_without_depth_or_texture_nothing_is_good(scene: Reconstruction) -> None:
    nothing = dataclasses.replace(scene, z_depth=np.full_like(scene.z_depth, np.nan))
    grey = dataclasses.replace(scene, images=np.full_like(scene.images, 90))
    assert assess_quality(nothing)["grade"] == "bad"
    assert assess_quality(grey)["grade"] == "doubtful"
    assert assess_quality(grey)["figures"]["score"] is None


def test_pixels_that_are_not_valid_do_not_count(scene: Reconstruction) -> None:
    """Neither depth that is not finite nor sky changes the verdict on the rest."""
    rng = np.random.default_rng(0)
    holes = rng.random(scene.z_depth.shape) < 0.3
    depth, sky = scene.z_depth.copy(), np.zeros(scene.z_depth.shape, dtype=bool)
    depth[holes] = rng.choice([np.nan, np.inf, -1.0], holes.sum())
    sky[:, :20] = True
    depth[:, :20] = 1.0
    quality = assess_quality(dataclasses.replace(scene, z_depth=depth, sky=sky))
    assert quality["grade"] == "good"
    assert quality["figures"]["depth_agreement"] > 0.8


def test_focal_lengths_are_compared_with_exif_and_each_other(scene: Reconstruction) -> None:
    film = 0.9 * 320 * 1.02**0.5 * np.hypot(36, 24) / np.hypot(320, 240)
    views = tuple(dataclasses.replace(view, focal_35mm=2 * film) for view in scene.views)
    intrinsics = scene.intrinsics.copy()
    intrinsics[::2, [0, 1], [0, 1]] *= 1.1
    figures = assess_quality(dataclasses.replace(scene, views=views, intrinsics=intrinsics))["figures"]
    assert figures["focal_to_exif"] == pytest.approx(0.525, abs=0.03)
    assert 0.03 < figures["focal_spread"] < 0.1


def test_it_is_stored_without_a_change_of_the_settings_hash(scene: Reconstruction, tmp_path: Path) -> None:
    assessed = scene.with_quality()
    assert assessed.settings_hash == scene.settings_hash
    assert assessed.timings_s["quality"] > 0
    assessed.save(tmp_path)
    assert load_reconstruction(tmp_path).quality == assessed.quality
    header = tmp_path / "reconstruction.json"
    data = json.loads(header.read_text())
    assert data.pop("quality")["grade"] in GRADES
    header.write_text(json.dumps(data))  # as earlier releases wrote it
    assert load_reconstruction(tmp_path).quality is None


def test_the_demo_is_good_and_not_without_global_attention() -> None:
    images = list((demo_scene(12, 84, 112).images[0].permute(0, 2, 3, 1) * 255).round().byte().numpy())
    grades = [
        reconstruct(images, "manyview-small", accel=plan, image_size=112).quality["grade"]
        for plan in ("dense", "frame")
    ]
    assert grades == ["good", "bad"]


@pytest.mark.parametrize("name", ["mvs-herz-jesu-p25", "mvs-fountain-p11"])
def test_photographs_by_the_bundled_model_are_bad(shared_data: Path, name: str) -> None:
    folder = shared_data / name / "color"
    quality = reconstruct(folder, "manyview-small", accel="dense", image_size=112).quality
    assert quality is not None and quality["grade"] == "bad"


def _long_walk(count: int, height: int = 28, width: int = 42) -> Reconstruction:
    """A camera that moves along a flat wall."""
    images = np.random.default_rng(0).integers(0, 255, (count, height, width, 3), dtype=np.uint8)
    cameras = np.tile(np.eye(3, 4), (count, 1, 1))
    cameras[:, 0, 3] = -0.08 * np.arange(count)
    transform = fit_transform((width, height), (width, height))
    return Reconstruction(
        images=images,
        cam_from_world=cameras,
        intrinsics=np.tile([[40.0, 0, width / 2], [0, 40, height / 2], [0, 0, 1]], (count, 1, 1)),
        z_depth=np.full((count, height, width), 3, dtype=np.float32),
        depth_conf=np.ones((count, height, width), dtype=np.float32),
        views=tuple(ViewRecord(f"{index}.png", "", transform) for index in range(count)),
    )


def test_many_views_take_seconds() -> None:
    scene = _long_walk(500)
    start = time.perf_counter()
    quality = assess_quality(scene)
    assert time.perf_counter() - start < 15  # one on an idle core
    assert quality["figures"]["confirmed_share"] > 0.9


def test_memory_is_that_of_a_bounded_sample() -> None:
    scene = _long_walk(60)
    tracemalloc.start()
    assess_quality(scene)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 16 * 2**20  # small images of at most 48 pairs of views, and 10 kB of each view
