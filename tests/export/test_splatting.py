"""What trainers of splats take: models that can be adjusted, whole folders, smaller images, one name each."""

from __future__ import annotations

import dataclasses
import json
import shlex
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import manyview
from manyview.errors import OutputError, UsageError
from manyview.export import ColmapOptions, NerfstudioOptions, TrackOptions, export, is_exported
from manyview.export.colmap_model import camera_parameters, colmap_cameras
from manyview.export.tracks import build_tracks
from manyview.geometry.unproject_np import pixel_grid, project, undistort
from manyview.models.network import Network
from manyview.reconstruction.inputs.source_images import reduced
from manyview.reconstruction.result.result import Reconstruction
from tests.analytic_scene import Truth, cast, fit_transform, room_scene, write_sources
from tests.models.tiny import FAST_SIZE

from .test_colmap import adjusted

pycolmap = pytest.importorskip("pycolmap")

PROJECTED = TrackOptions(measure=False)
LENS = np.array([-0.2, 0.05, 0.003, -0.002])


def listing(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


@pytest.fixture
def photographed(tmp_path: Path) -> tuple[Reconstruction, Truth]:
    """Three views of different sizes whose source images are there."""
    sizes = [(101, 75), (101, 75), (75, 101)]
    names = ["a.jpg", "b.png", "tall one.jpg"]
    scene, truth = room_scene([fit_transform(size, (56, 56)) for size in sizes], names)
    return write_sources(scene, truth, tmp_path / "in"), truth


_SETS = {
    "fountain": "mvs-fountain-p11/color/*",
    "herz-jesu": "mvs-herz-jesu-p25/color/*",
    "lund-door": "photos-lund-door-colmap/images/*",
    "lund-street": "photos-lund-street/images/*",
    "redkitchen": "rgbd-redkitchen/color/*",
    "tum": "seq-tum-fr3-office/color/*",
    "kitti": "seq-kitti-a/gray/*",
    "video": "video-short/house_1fps.mp4",
}


@pytest.fixture(scope="session")
def small_model() -> Network:
    return manyview.load("manyview-small")


@pytest.mark.parametrize("name", sorted(_SETS))
def test_bundle_adjustment_runs_on_every_photo_set(
    name: str, shared_data: Path, small_model: Network, tmp_path: Path
) -> None:
    files = [str(path) for path in sorted(shared_data.glob(_SETS[name]))][:4]
    inputs = files if len(files) > 1 else files[0]
    scene = manyview.reconstruct(inputs, small_model, image_size=FAST_SIZE)
    lines: list[str] = []
    export(scene, tmp_path, "colmap", {"images": "none"}, tell=lines.append)
    points = adjusted(tmp_path).num_points3D()
    assert points >= 50 * len(scene) or any("--fill" in line for line in lines)


def distorted_room(lens: np.ndarray) -> Reconstruction:
    """The room through a lens, with equal focal lengths in x and y."""
    scene, _ = room_scene([fit_transform((320, 240), (112, 84))] * 5)
    matrices = scene.intrinsics.copy()
    matrices[:, 1, 1] = matrices[:, 0, 0]
    images, depth = scene.images.copy(), scene.z_depth.copy()
    for index, matrix in enumerate(matrices):
        rays = (pixel_grid(84, 112).reshape(-1, 2) - matrix[:2, 2]) / matrix[[0, 1], [0, 1]]
        pixels = undistort(rays, lens) * matrix[[0, 1], [0, 1]] + matrix[:2, 2]
        z, colour = cast(scene.cam_from_world[index], matrix, pixels)
        images[index], depth[index] = colour.reshape(84, 112, 3), z.reshape(84, 112)
    return dataclasses.replace(
        scene, images=images, z_depth=depth, intrinsics=matrices, distortion=np.tile(lens, (5, 1))
    )


def test_a_lens_is_in_every_export(tmp_path: Path) -> None:
    scene = distorted_room(LENS)
    export(scene, tmp_path, "colmap", ColmapOptions(images="none", tracks=PROJECTED))
    model = pycolmap.Reconstruction(tmp_path / "sparse" / "0")
    assert model.num_points3D() > 1000
    assert np.percentile([point.error for point in model.points3D.values()], 80) < 1e-2
    for camera in model.cameras.values():
        assert camera.model_name == "OPENCV"
        np.testing.assert_allclose(camera.params[4:], LENS)
    export(scene, tmp_path, "nerfstudio", NerfstudioOptions(images="none"))
    data = json.loads((tmp_path / "transforms.json").read_text())
    assert not {"k1", "k2", "p1", "p2"} & data.keys()  # they would hide those of the frames
    assert all([frame[key] for key in ("k1", "k2", "p1", "p2")] == LENS.tolist() for frame in data["frames"])
    export(scene, tmp_path, "npz", {"world_points": False})
    with np.load(tmp_path / "scene.npz") as arrays:
        np.testing.assert_array_equal(arrays["distortion"], scene.distortion)
    export(scene, tmp_path, "depth")
    header = json.loads((tmp_path / "depth" / "depth.json").read_text())
    assert all(view["distortion"] == LENS.tolist() for view in header["views"])


def refined_room(lens: np.ndarray) -> Reconstruction:
    """A result as a refinement leaves it: two cameras for five views, and tracks."""
    scene = distorted_room(lens)
    views = [{"name": name, "status": "mapped", "camera": int(i > 2)} for i, name in enumerate(scene.names)]
    return dataclasses.replace(
        scene,
        tracks=build_tracks(scene, TrackOptions(max_points=800)),
        refinement={"accepted": True, "views": views},
        settings={**scene.settings, "refine": {"camera_model": "SIMPLE_RADIAL"}},
    )


def test_a_refined_result_is_exported_as_it_was_refined(tmp_path: Path) -> None:
    scene = refined_room(np.array([-0.1, 0.0, 0.0, 0.0]))
    assert scene.tracks is not None
    export(scene, tmp_path, "colmap", {"images": "none"})
    model = pycolmap.Reconstruction(tmp_path / "sparse" / "0")
    assert [model.images[i + 1].camera_id for i in range(5)] == [1, 1, 1, 2, 2]
    assert {camera.model_name for camera in model.cameras.values()} == {"SIMPLE_RADIAL"}
    points = np.stack([model.points3D[i + 1].xyz for i in range(model.num_points3D())])
    np.testing.assert_array_equal(points, scene.tracks.points)
    assert model.compute_num_observations() == len(scene.tracks.pixels)
    assert adjusted(tmp_path).compute_mean_reprojection_error() < 1.0
    few = ColmapOptions(images="none", tracks=TrackOptions(max_points=100))
    export(scene, tmp_path, "colmap", few, overwrite=True)
    model = pycolmap.Reconstruction(tmp_path / "sparse" / "0")
    lengths = [point.track.length() for point in model.points3D.values()]
    assert len(lengths) == 100 and min(lengths) >= np.sort(scene.tracks.lengths)[-100]


def test_cameras_that_differ_are_not_shared() -> None:
    scene = refined_room(np.zeros(4))
    matrices = scene.intrinsics.copy()
    matrices[1, 0, 0] *= 1.1
    cameras, camera_of_view = colmap_cameras(dataclasses.replace(scene, intrinsics=matrices))
    assert camera_of_view == [0, 1, 0, 2, 2]
    assert [model for model, _, _ in cameras] == ["SIMPLE_RADIAL", "PINHOLE", "SIMPLE_RADIAL"]


@pytest.mark.parametrize(
    ("model", "aspect", "lens"),
    [
        ("SIMPLE_PINHOLE", 1.0, [0, 0, 0, 0]),
        ("PINHOLE", 1.1, [0, 0, 0, 0]),
        ("SIMPLE_RADIAL", 1.0, [-0.1, 0, 0, 0]),
        ("RADIAL", 1.0, [-0.1, 0.02, 0, 0]),
        ("OPENCV", 1.1, [-0.1, 0.02, 0.003, 0.004]),
    ],
)
def test_every_camera_model_projects_as_colmap_does(model: str, aspect: float, lens: list[float]) -> None:
    matrix = np.array([[500.0, 0, 310.0], [0, 500.0 * aspect, 240.0], [0, 0, 1]])
    name, params = camera_parameters(matrix, np.array(lens, float), model)
    assert name == model
    camera = pycolmap.Camera(model=name, width=640, height=480, params=params)
    points = np.random.default_rng(0).uniform([-1, -1, 3], [1, 1, 5], (20, 3))
    pixels, _ = project(points, np.eye(3, 4), matrix, np.array(lens, float))
    np.testing.assert_allclose(camera.img_from_cam(points), pixels, atol=1e-9)


def test_smaller_images_and_the_command_lines(
    tmp_path: Path, photographed: tuple[Reconstruction, Truth]
) -> None:
    scene, _ = photographed
    out, lines = tmp_path / "out of here", []
    export(scene, out, "colmap", ColmapOptions(downscale=(2, 4)), tell=lines.append)
    names = listing(out / "images")
    assert names == ["a.jpg", "b.png", "tall_one.jpg"]
    for factor in (2, 4):
        assert listing(out / f"images_{factor}") == names
        for name in names:
            large, small = (Image.open(out / folder / name) for folder in ("images", f"images_{factor}"))
            assert small.size == (large.width // factor, large.height // factor)
            mean = np.asarray(reduced(large.convert("RGB"), factor), float)
            assert np.abs(np.asarray(small, float) - mean).mean() < 3
    (gsplat,) = [line for line in lines if line.startswith("gsplat")]
    words = shlex.split(gsplat.partition(": ")[2])
    assert words[words.index("--data_dir") + 1] == str(out) and words[words.index("--data_factor") + 1] == "1"
    assert [line for line in lines if "tall one.jpg" in line and "tall_one.jpg" in line]
    assert not list(out.glob("images_8"))
    for wrong in ({"downscale": (1,)}, {"downscale": (2, 2)}, {"downscale": (2,), "images": "none"}):
        with pytest.raises(UsageError, match="downscale"):
            export(scene, tmp_path / "no", "colmap", wrong)
    with pytest.raises(UsageError, match="downscale"):
        export(scene, tmp_path / "no", "colmap", {"downscale": (90,)})
    assert not (tmp_path / "no").exists()


def test_reducing_averages_whole_blocks() -> None:
    pixels = np.arange(5 * 7 * 3, dtype=np.uint8).reshape(5, 7, 3)
    small = np.asarray(reduced(Image.fromarray(pixels), 2), float)
    expected = pixels[:4, :6].reshape(2, 2, 3, 2, 3).mean((1, 3))
    np.testing.assert_allclose(small, expected, atol=0.51)


@pytest.mark.parametrize("folder", ["images", "images_2"])
def test_a_foreign_file_among_the_images_is_refused(
    tmp_path: Path, photographed: tuple[Reconstruction, Truth], folder: str
) -> None:
    (tmp_path / "out" / folder).mkdir(parents=True)
    foreign = tmp_path / "out" / folder / ".DS_Store"
    foreign.write_text("mine")
    for overwrite in (False, True):
        with pytest.raises(OutputError, match="DS_Store"):
            export(photographed[0], tmp_path / "out", "colmap", {"downscale": (2,)}, overwrite=overwrite)
    assert listing(tmp_path / "out") == [f"{folder}/.DS_Store"] and foreign.read_text() == "mine"


def test_images_of_earlier_exports_leave_with_overwrite(
    tmp_path: Path, photographed: tuple[Reconstruction, Truth]
) -> None:
    scene, _ = photographed
    out = tmp_path / "out"
    export(scene, out, "nerfstudio")
    export(scene, out, "colmap", {"downscale": (2,)})
    fewer = dataclasses.replace(
        scene,
        views=scene.views[:2],
        **{
            name: getattr(scene, name)[:2]
            for name in ("images", "cam_from_world", "intrinsics", "z_depth", "depth_conf")
        },
    )
    with pytest.raises(OutputError, match="--overwrite"):
        export(fewer, out, "colmap")
    export(fewer, out, "colmap", overwrite=True)
    assert listing(out / "images") == ["a.jpg", "b.png"] and not (out / "images_2").exists()
    assert not is_exported(scene, out, "nerfstudio")
    export(fewer, out, "nerfstudio", overwrite=True)
    assert is_exported(fewer, out, "colmap") and is_exported(fewer, out, "nerfstudio")


def test_nerfstudio_finds_depth_in_the_size_of_the_images(
    tmp_path: Path, photographed: tuple[Reconstruction, Truth]
) -> None:
    scene, truth = photographed
    lines: list[str] = []
    export(scene, tmp_path / "out", "nerfstudio", {"depth": True, "downscale": (2,)}, tell=lines.append)
    data = json.loads((tmp_path / "out" / "transforms.json").read_text())
    words = shlex.split(
        next(line for line in lines if line.startswith("nerfstudio, with depth")).partition(": ")[2]
    )
    unit = float(words[words.index("--depth-unit-scale-factor") + 1])
    for index, frame in enumerate(data["frames"]):
        depth = np.asarray(Image.open(tmp_path / "out" / frame["depth_file_path"])) * unit
        assert depth.shape == (frame["h"], frame["w"])
        pixels = pixel_grid(*depth.shape).reshape(-1, 2)
        matrix = truth.upright_intrinsics[index]
        _, z = project(truth.surface(index, pixels), truth.cam_from_world[index], matrix)
        assert np.median(np.abs(depth.reshape(-1) / z - 1)) < 0.02
        with Image.open(tmp_path / "out" / frame["depth_file_path"].replace("depths/", "depths_2/")) as small:
            assert small.size == (frame["w"] // 2, frame["h"] // 2)
    nested = dataclasses.replace(
        scene,
        views=tuple(dataclasses.replace(v, name=f"left/{v.name}") for v in scene.views),
    )
    with pytest.raises(UsageError, match="left/"):
        export(nested, tmp_path / "nested", "nerfstudio", {"downscale": (2,)})
    export(nested, tmp_path / "nested", "nerfstudio")
    assert listing(tmp_path / "nested" / "images")[0] == "left/a.jpg"


def test_an_image_has_one_name_in_all_exports(
    tmp_path: Path, photographed: tuple[Reconstruction, Truth]
) -> None:
    scene, _ = photographed
    for name in ("colmap", "nerfstudio", "depth", "npz"):
        export(scene, tmp_path / "out", name)
    names = list(scene.source_image_names)
    model = pycolmap.Reconstruction(tmp_path / "out" / "sparse" / "0")
    assert [model.images[i + 1].name for i in range(3)] == names
    data = json.loads((tmp_path / "out" / "transforms.json").read_text())
    assert [frame["file_path"] for frame in data["frames"]] == [f"images/{name}" for name in names]
    header = json.loads((tmp_path / "out" / "depth" / "depth.json").read_text())
    assert [view["image"] for view in header["views"]] == names
    assert [Path(view["file"]).stem for view in header["views"]] == [Path(name).stem for name in names]
    with np.load(tmp_path / "out" / "scene.npz") as arrays:
        assert arrays["image_names"].tolist() == names and arrays["names"].tolist() == list(scene.names)
