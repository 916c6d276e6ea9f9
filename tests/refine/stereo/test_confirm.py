"""Depth from exact cameras, against rendered scenes with exact truth."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from manyview.errors import InputError, UsageError
from manyview.geometry.unproject_np import pixel_grid, project, undistort
from manyview.reconstruction.inputs.preprocess import plan_view, render_view
from manyview.reconstruction.inputs.views import ViewRecord
from manyview.reconstruction.result.result import Reconstruction
from manyview.reconstruction.result.tracks import Tracks
from manyview.refine.stereo import StereoOptions, confirm_depth
from manyview.synthetic import SceneOptions, render_scenes
from manyview.synthetic.batch import SceneBatch

WIDTH, HEIGHT, VIEWS = 160, 120, 5
OPTIONS = StereoOptions(size=WIDTH, coarsest=80, neighbours=4, best=2, planes=96)
QUICK = dataclasses.replace(OPTIONS, planes=48, looks=1)


@pytest.fixture(scope="module")
def rendered() -> SceneBatch:
    """A textured room, seen from an arc."""
    options = SceneOptions.hard(
        kind="room", motion="narrow", path="orbit", texture_hardness=1.0, light_change=0.1, samples_per_side=3
    )
    return render_scenes(0, VIEWS, HEIGHT, WIDTH, options)


@pytest.fixture
def scene(rendered: SceneBatch, tmp_path: Path) -> Reconstruction:
    """What a bad network of 64 pixels would leave after its cameras were refined, with a few tracks."""
    images, views = [], []
    for index, image in enumerate(_images(rendered)):
        path = tmp_path / f"{index}.png"
        Image.fromarray(image).save(path)
        views.append(ViewRecord(path.name, str(path), plan_view(WIDTH, HEIGHT, "fit", 64, 16)))
        images.append(render_view(Image.fromarray(image), views[-1].transform, "fit"))
    return _scene(rendered, np.stack(images), views)


def _images(rendered: SceneBatch) -> np.ndarray:
    return (rendered.images[0].movedim(1, -1).numpy() * 255).round().astype(np.uint8)


def _scene(rendered: SceneBatch, images: np.ndarray, views: list[ViewRecord]) -> Reconstruction:
    cameras = rendered.cam_from_world[0].double().numpy()
    maps = np.stack([view.transform.network_from_upright for view in views])
    intrinsics = maps @ rendered.intrinsics[0].double().numpy()
    shape = images.shape[:3]
    return Reconstruction(
        images=images,
        cam_from_world=cameras,
        intrinsics=intrinsics,
        z_depth=np.full(shape, rendered.z_depth.median(), np.float32),
        depth_conf=np.random.default_rng(0).uniform(1, 50, shape).astype(np.float32),
        views=tuple(views),
        tracks=_tracks(rendered, cameras, intrinsics, shape[1:]),
    )


def _tracks(
    rendered: SceneBatch, cameras: np.ndarray, intrinsics: np.ndarray, size: tuple[int, ...]
) -> Tracks:
    """Some points of the first view, where all views would see them."""
    points = rendered.world_points[0, 0, ::12, ::12].reshape(-1, 3).double().numpy()
    pixels, z = project(points[None], cameras, intrinsics)
    inside = ((z > 0) & (pixels > 0).all(-1) & (pixels < size[::-1]).all(-1)).all(0)
    points, pixels = points[inside], pixels[:, inside]
    number = np.repeat(np.arange(len(points)), len(cameras))
    view = np.tile(np.arange(len(cameras)), len(points))
    colours = np.zeros((len(points), 3), np.uint8)
    return Tracks(points, colours, number, view, pixels.transpose(1, 0, 2).reshape(-1, 2))


def _errors(found: Reconstruction, truth: np.ndarray) -> np.ndarray:
    """Relative errors of confirmed pixels."""
    assert found.confirmed is not None
    exact = truth[found.confirmed]
    return np.abs(found.z_depth[found.confirmed] - exact) / exact


def test_confirmed_depth_is_exact_and_covers_most_of_a_textured_scene(
    scene: Reconstruction, rendered: SceneBatch
) -> None:
    stages = []
    found = confirm_depth(scene, None, OPTIONS, "cpu", lambda *state: stages.append(state))
    error = _errors(found, rendered.z_depth[0].numpy())
    assert (found.width, found.height) == (WIDTH, HEIGHT)
    assert found.confirmed is not None and found.confirmed.mean() >= 0.6
    assert np.median(error) <= 0.01
    total = 2 * OPTIONS.looks * VIEWS
    assert stages[-1] == ("confirm depth", total, total)
    assert [done for _, done, _ in stages] == sorted(done for _, done, _ in stages)


def test_other_pixels_keep_the_networks_depth_and_rank_below(scene: Reconstruction) -> None:
    found = confirm_depth(scene, None, QUICK, "cpu")
    confirmed = found.confirmed
    assert confirmed is not None and found.tracks is not None and scene.tracks is not None
    assert np.unique(found.z_depth[~confirmed]).tolist() == np.unique(scene.z_depth).tolist()
    assert found.depth_conf[confirmed].min() > found.depth_conf[~confirmed].max()
    share = 100 * (1 - confirmed.mean()) + 0.01
    above = found.depth_conf >= found.confidence_threshold(share)
    assert not (above & ~confirmed).any()
    # The order of the network's confidence is kept.
    x = (np.arange(WIDTH) + 0.5) * scene.width / WIDTH
    y = (np.arange(HEIGHT) + 0.5) * scene.height / HEIGHT
    network = scene.depth_conf[:, y.astype(int)][:, :, x.astype(int)][~confirmed]
    order = np.argsort(network, kind="stable")
    assert (np.diff(found.depth_conf[~confirmed][order]) >= 0).all()
    # Cameras and tracks are those of the new pixels.
    expected, _ = project(found.tracks.points, found.cam_from_world[0], found.intrinsics[0])
    first = found.tracks.view_index == 0
    np.testing.assert_allclose(expected, found.tracks.pixels[first], atol=1e-3)
    np.testing.assert_allclose(found.upright_intrinsics, scene.upright_intrinsics, rtol=1e-9)


def test_what_is_hidden_is_neither_confirmed_nor_confirms(scene: Reconstruction) -> None:
    masked, sky = np.zeros(scene.z_depth.shape, bool), np.zeros(scene.z_depth.shape, bool)
    masked[:, :, :20] = True
    sky[1:] = True  # all but one view: nothing is left that could confirm
    found = confirm_depth(dataclasses.replace(scene, masked=masked), None, QUICK, "cpu")
    assert found.masked is not None and found.confirmed is not None
    assert found.masked[:, :, :49].all() and not (found.confirmed & found.masked).any()
    assert found.confirmed.any()
    alone = confirm_depth(dataclasses.replace(scene, sky=sky), None, QUICK, "cpu")
    assert alone.confirmed is not None and not alone.confirmed.any()


def test_lens_distortion(rendered: SceneBatch) -> None:
    """Images bent by a lens, and depth at their pixels."""
    lens = np.array([0.15, 0.03, 0.002, -0.001])
    matrix = rendered.intrinsics[0, 0].double().numpy()
    focal, centre = matrix[[0, 1], [0, 1]], matrix[:2, 2]
    straight = undistort((pixel_grid(HEIGHT, WIDTH).reshape(-1, 2) - centre) / focal, lens) * focal + centre
    places = torch.from_numpy(2 * straight / (WIDTH, HEIGHT) - 1).float().view(1, HEIGHT, WIDTH, 2)

    def bent(maps: torch.Tensor, mode: str) -> torch.Tensor:
        grid = places.expand(VIEWS, -1, -1, -1)
        return torch.nn.functional.grid_sample(maps, grid, mode, "border", align_corners=False)

    images = (bent(rendered.images[0], "bilinear").movedim(1, -1).numpy() * 255).round().astype(np.uint8)
    truth = bent(rendered.z_depth[0][:, None], "nearest")[:, 0].numpy()
    views = [
        ViewRecord(f"{index}.png", "", plan_view(WIDTH, HEIGHT, "fit", WIDTH, 1)) for index in range(VIEWS)
    ]
    # Without tracks the network's depth gives the range.
    scene = dataclasses.replace(_scene(rendered, images, views), tracks=None, z_depth=truth)
    known = confirm_depth(
        dataclasses.replace(scene, distortion=np.tile(lens, (VIEWS, 1))), None, QUICK, "cpu"
    )
    ignored = confirm_depth(scene, None, QUICK, "cpu")
    assert known.confirmed is not None and ignored.confirmed is not None
    assert known.confirmed.mean() > 1.2 * ignored.confirmed.mean()
    assert np.median(_errors(known, truth)) < 0.01


def test_views_of_other_shapes_share_a_canvas(scene: Reconstruction, rendered: SceneBatch) -> None:
    """One view is a portrait cut out of its image: less wide, the same pixels."""
    left, width = 30, 90
    images = [Image.fromarray(image) for image in _images(rendered)]
    images[1] = images[1].crop((left, 0, left + width, HEIGHT))
    transforms = [plan_view(*image.size, "pad", 64, 16) for image in images]
    shifted = rendered.intrinsics[0].double().numpy().copy()
    shifted[1, 0, 2] -= left
    maps = np.stack([transform.network_from_upright for transform in transforms])
    mixed = dataclasses.replace(
        scene,
        images=np.stack([render_view(i, t, "pad") for i, t in zip(images, transforms)]),
        intrinsics=maps @ shifted,
        z_depth=np.ones((VIEWS, 64, 64), np.float32),
        depth_conf=np.ones((VIEWS, 64, 64), np.float32),
        views=tuple(dataclasses.replace(v, transform=t) for v, t in zip(scene.views, transforms)),
        tracks=None,
    )
    found = confirm_depth(mixed, images, QUICK, "cpu")
    assert (found.width, found.height) == (WIDTH, WIDTH)
    np.testing.assert_allclose(found.upright_intrinsics, shifted, rtol=1e-9)
    box = found.views[1].transform.content_box
    assert box[3] - box[1] == WIDTH
    assert found.confirmed is not None
    assert not found.confirmed[1, :, : box[0]].any() and not found.confirmed[1, :, box[2] :].any()


def test_a_view_alone_keeps_its_depth(scene: Reconstruction) -> None:
    one = dataclasses.replace(
        scene,
        **{
            name: getattr(scene, name)[:1]
            for name in ("images", "cam_from_world", "intrinsics", "z_depth", "depth_conf", "views")
        },
        tracks=None,
    )
    found = confirm_depth(one, None, QUICK, "cpu")
    assert found.confirmed is not None and not found.confirmed.any()
    assert np.unique(found.z_depth).tolist() == np.unique(one.z_depth).tolist()


def test_images_that_do_not_fit_are_named(scene: Reconstruction) -> None:
    images = [Image.new("RGB", (WIDTH, HEIGHT))] * VIEWS
    with pytest.raises(InputError, match="4 images"):
        confirm_depth(scene, images[:4], QUICK, "cpu")
    images[2] = Image.new("RGB", (WIDTH, HEIGHT - 1))
    with pytest.raises(InputError, match=r"2\.png"):
        confirm_depth(scene, images, QUICK, "cpu")


@pytest.mark.parametrize("wrong", [{"size": 0}, {"neighbours": 0}, {"window": 4}, {"reprojection": 0.0}])
def test_options_out_of_range(wrong: dict[str, float]) -> None:
    with pytest.raises(UsageError, match=next(iter(wrong))):
        StereoOptions(**wrong)  # type: ignore[arg-type]
