"""Known cameras and depth: reading, matching names, mapping through resizing, and what the network gets."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import manyview
from manyview.errors import InputError, UsageError
from manyview.models.pi3.priors import relative_poses
from manyview.reconstruction.inputs.find import find_inputs
from manyview.reconstruction.inputs.load import read_views
from manyview.reconstruction.inputs.preprocess import plan_view
from manyview.reconstruction.inputs.views import ViewRecord
from manyview.reconstruction.known.arrays import KnownViews
from manyview.reconstruction.known.cameras import KnownCamera, KnownCameras, read_known_cameras
from manyview.reconstruction.known.files import KnownFiles, match_views
from manyview.reconstruction.known.known import check_accepts_priors, read_known, relative_to_first_known
from tests.models.tiny import TINY
from tests.models.tiny_pi3 import SMALL, SMALL_X, tiny_pi3x


def _poses(count: int) -> np.ndarray:
    """Cameras on a bent path, far from the origin."""
    found = np.tile(np.eye(4), (count, 1, 1))
    for i in range(count):
        c, s = np.cos(0.3 * i), np.sin(0.3 * i)
        found[i, :3, :3] = [[c, 0, s], [0, 1, 0], [-s, 0, c]]
        found[i, :3, 3] = [4e5 + 0.5 * i, 3.0, -i]
    return found


def _write_poses(path: Path, poses: np.ndarray, names: list[str] | None = None) -> Path:
    rows = [" ".join(f"{value:.9f}" for value in pose.flatten()) for pose in poses]
    path.write_text("\n".join(rows if names is None else map(" ".join, zip(names, rows, strict=True))))
    return path


def _record(
    name: str, width: int = 200, height: int = 100, policy: str = "fit", turned: int = 1
) -> ViewRecord:
    transform = plan_view(width, height, policy, 112, 14, turned)  # type: ignore[arg-type]
    return ViewRecord(name, f"/images/{name}", transform)


def test_text_files_in_order_and_by_name(tmp_path):
    poses, records = _poses(3), [_record(f"{i}.jpg") for i in range(3)]
    (tmp_path / "intrinsics.txt").write_text("100 0 99.5\n0 110 49.5\n0 0 1\n")
    ordered = match_views(read_known_cameras(_write_poses(tmp_path / "poses.txt", poses)), records)
    for camera, pose in zip(ordered, poses, strict=True):
        np.testing.assert_allclose(camera.world_from_cam, pose[:3], atol=1e-6)
        np.testing.assert_allclose(camera.intrinsics, [[100, 0, 100], [0, 110, 50], [0, 0, 1]])
    named = _write_poses(tmp_path / "named.txt", poses[[2, 0]], ["2.jpg", "0.jpg"])
    some = match_views(read_known_cameras(named), records)
    np.testing.assert_allclose(some[2].world_from_cam, poses[2, :3], atol=1e-6)
    assert some[1].world_from_cam is None and some[1].intrinsics is not None
    alone = match_views(read_known_cameras(tmp_path / "intrinsics.txt"), records)
    assert all(camera.world_from_cam is None for camera in alone)
    with pytest.raises(UsageError, match=r"3 .* 2"):
        match_views(read_known_cameras(tmp_path / "poses.txt"), records[:2])


def test_a_colmap_model_with_some_of_the_images(tmp_path):
    sparse = tmp_path / "sparse" / "0"
    sparse.mkdir(parents=True)
    (sparse / "cameras.txt").write_text(
        "1 PINHOLE 400 200 300 310 200 100\n2 SIMPLE_RADIAL 400 200 300 200 100 .1\n"
    )
    half = np.sqrt(0.5)  # a quarter turn about y
    (sparse / "images.txt").write_text(
        f"1 {half} 0 {half} 0 1 2 3 1 left/a.jpg\n\n2 1 0 0 0 0 0 0 2 left/b.jpg\n\n"
    )
    read = read_known_cameras(tmp_path)
    assert "lens distortion" in read.notes[0]
    cameras = match_views(read, [_record("x/a.png"), _record("c.png"), _record("left/b.jpg")])
    turn = np.array([[0, 0, 1], [0, 1, 0], [-1, 0, 0.0]])
    np.testing.assert_allclose(cameras[0].world_from_cam[:, :3], turn.T, atol=1e-12)
    np.testing.assert_allclose(cameras[0].world_from_cam[:, 3], -turn.T @ [1, 2, 3], atol=1e-12)
    assert cameras[1] is None and cameras[2] is not None
    known = read_known(
        KnownFiles(tmp_path), [_record("a.jpg"), _record("c.jpg"), _record("b.jpg")], (56, 112)
    )
    # 400x200 known, 200x100 the image, 112x56 the network image: 0.28 in all.
    np.testing.assert_allclose(
        known.priors.intrinsics[0, 0], [[84, 0, 56], [0, 86.8, 28], [0, 0, 1]], rtol=1e-6
    )
    assert known.priors.has_pose.tolist() == [[True, False, True]]
    assert known.facts["poses"] == known.facts["intrinsics"] == 2 and known.facts["depth"] == 0
    assert known.notes[-1] == "known of 3 views: poses of 2, intrinsics of 2"


@pytest.mark.parametrize("focal", ["0", "nan", "inf", "-100"])
def test_impossible_intrinsics_are_refused(tmp_path, focal):
    path = tmp_path / "intrinsics.txt"
    path.write_text(f"{focal} 0 99.5\n0 110 49.5\n0 0 1\n")
    with pytest.raises(InputError, match=r"intrinsics\.txt"):
        match_views(read_known_cameras(path), [_record("0.jpg")])


def test_names_that_are_not_unique_are_not_guessed():
    known = KnownCameras(by_name={"a/1.jpg": KnownCamera(np.eye(3, 4)), "b/1.jpg": KnownCamera(np.eye(3, 4))})
    with pytest.raises(UsageError, match=r"'a/1\.jpg'.*'1\.jpg'"):
        match_views(known, [_record("1.jpg")])
    assert match_views(known, [_record("b/1.jpg"), _record("c/1.jpg")])[0] is known.by_name["b/1.jpg"]


@pytest.mark.parametrize("policy", ["fit", "crop", "pad", "square", "area"])
def test_intrinsics_and_depth_follow_the_pixels(tmp_path, policy):
    """A bright block is seen at the pixel where its known depth and its ray are."""
    pixels, depth = np.zeros((160, 100, 3), np.uint8), np.full((160, 100), 5.0)
    pixels[60:100, 30:70], depth[60:100, 30:70] = 255, 2.0
    Image.fromarray(pixels).save(tmp_path / "1.png")
    (tmp_path / "depth").mkdir()
    np.save(tmp_path / "depth" / "1.npy", depth)
    (tmp_path / "k").mkdir()
    (tmp_path / "k" / "intrinsics.txt").write_text("90 0 49.5\n0 90 79.5\n0 0 1\n")
    views = read_views(find_inputs([tmp_path / "1.png"]), policy, 112, 14)
    size = tuple(views.images.shape[-2:])
    files = KnownFiles(tmp_path / "k", tmp_path / "depth")
    priors = read_known(files, views.records, size).priors
    content = torch.from_numpy(views.records[0].transform.content_mask())
    inside = (views.images[0, 0] > 250) & content
    assert inside.any() and (priors.z_depth[0, 0][inside] == 2).all()
    assert (priors.z_depth[0, 0][~content] == 0).all() and (priors.z_depth[0, 0][content] > 0).all()
    # The block's middle is the principal point; half its width is 20 / 90 of the depth.
    rows, columns = inside.nonzero(as_tuple=True)
    k = priors.intrinsics[0, 0]
    assert abs(k[0, 2] - (columns.float().mean() + 0.5)) < 0.6
    assert abs(k[1, 2] - (rows.float().mean() + 0.5)) < 0.6
    assert abs(k[0, 0] * 40 / 90 - (columns.max() - columns.min() + 1)) < 3
    assert abs(k[1, 1] * 40 / 90 - (rows.max() - rows.min() + 1)) < 3


def test_depth_in_millimetres_and_other_units(tmp_path):
    Image.fromarray(np.full((50, 100), 1500, np.uint16)).save(tmp_path / "a.png")
    records = [_record("a.jpg"), _record("b.jpg")]
    priors = read_known(KnownFiles(depth=tmp_path), records, (56, 112)).priors
    assert (priors.z_depth[0, 0] == 1.5).all() and priors.has_depth.tolist() == [[True, False]]
    priors = read_known(KnownFiles(depth=tmp_path, depth_scale=500), records, (56, 112)).priors
    assert (priors.z_depth[0, 0] == 3).all()
    (tmp_path / "depth.json").write_text('{"counts_per_unit": 250.0}')  # as ManyView's export says
    assert (read_known(KnownFiles(depth=tmp_path), records, (56, 112)).priors.z_depth[0, 0] == 6).all()
    with pytest.raises(InputError, match=r"100x50 .*a\.jpg 100x100"):
        read_known(KnownFiles(depth=tmp_path), [_record("a.jpg", 100, 100)], (112, 112))
    with pytest.raises(InputError, match=r"c\.png"):
        read_known(KnownFiles(depth=tmp_path), [_record("c.jpg")], (56, 112))


@pytest.mark.parametrize("unknown", [[], [2], [0], [0, 3], [1, 2]])
def test_unknown_views_do_not_change_the_unit_of_length(unknown):
    poses = _poses(5)
    filled = relative_to_first_known([None if i in unknown else pose[:3] for i, pose in enumerate(poses)])
    known = [i for i in range(5) if i not in unknown]
    scaled = relative_poses(torch.from_numpy(filled)[None].float(), torch.ones(1, 5, dtype=torch.bool), None)[
        0
    ]
    truth = np.linalg.inv(poses[known[0]]) @ poses[known]
    distances = np.linalg.norm(truth[1:, :3, 3], axis=1)
    # Units of the mean distance of the known views; with all but frame 0 known, a zero counts too.
    unit = distances.mean() * (1 if unknown != [0] else 3 / 4)
    np.testing.assert_allclose(scaled[known][:, :3, 3], truth[:, :3, 3] / unit, atol=1e-5)


def test_refusals(tmp_path):
    for config, name in ((TINY, "tiny"), (SMALL, "pi3")):
        with pytest.raises(UsageError, match=f"{name} .*pi3x"):
            check_accepts_priors(config, name)
    check_accepts_priors(SMALL_X, "pi3x")
    with pytest.raises(InputError, match="nothing"):
        read_known_cameras(tmp_path / "nothing")
    with pytest.raises(InputError, match=re.escape(str(tmp_path))):
        read_known_cameras(tmp_path)
    (tmp_path / "poses.txt").write_text("1 0 0 0 0 1 0\n")
    with pytest.raises(InputError, match=r"poses\.txt: line 1 .*16"):
        read_known_cameras(tmp_path / "poses.txt")
    turned = [_record("a.jpg", turned=6), _record("b.jpg")]
    _write_poses(tmp_path / "poses.txt", _poses(2))
    with pytest.raises(InputError, match=r"a\.jpg"):
        read_known(KnownFiles(tmp_path / "poses.txt"), turned, (56, 112))
    one = _write_poses(tmp_path / "one.txt", _poses(1), ["b.jpg"])
    with pytest.raises(UsageError, match="one view"):
        read_known(KnownFiles(one), [_record("a.jpg"), _record("b.jpg")], (56, 112))
    with pytest.raises(InputError, match="nothing"):
        KnownFiles(tmp_path / "nothing")
    with pytest.raises(UsageError, match="known depth"):
        KnownFiles(one, depth_scale=2.0)


@pytest.mark.parametrize("tensors", [False, True])
@pytest.mark.parametrize("form", ["array with NaN", "sequence with None"])
def test_arrays_are_used_as_files_are(tmp_path, tensors, form):
    """Cameras and depth in memory give the priors that the same numbers in files give."""
    poses, records = _poses(4), [_record(f"{i}.jpg") for i in range(4)]
    intrinsics = np.array([[100, 0, 99.5], [0, 110, 49.5], [0, 0, 1.0]])
    depth = np.linspace(1, 9, 4 * 50 * 100).reshape(4, 50, 100)
    depth[0, :25] = np.nan
    (tmp_path / "depth").mkdir()
    for i in (0, 1, 3):
        np.save(tmp_path / "depth" / f"{i}.npy", depth[i])
    known_poses = [0, 1, 3]
    _write_poses(tmp_path / "poses.txt", poses[known_poses], [f"{i}.jpg" for i in known_poses])
    (tmp_path / "intrinsics.txt").write_text("\n".join(" ".join(map(str, row)) for row in intrinsics))
    files = read_known(KnownFiles(tmp_path / "poses.txt", tmp_path / "depth"), records, (56, 112))

    cam_from_world, shared = np.linalg.inv(poses), intrinsics.copy()
    shared[:2, 2] += 0.5
    cam_from_world[2], depth[2] = np.nan, np.nan
    make = torch.from_numpy if tensors else np.asarray
    if form == "array with NaN":
        known = KnownViews(make(cam_from_world), make(np.tile(shared, (4, 1, 1))), make(depth))
    else:
        some = [None if i == 2 else make(cam_from_world[i, :3]) for i in range(4)]
        known = KnownViews(some, make(shared), [None if i == 2 else make(depth[i]) for i in range(4)])
    arrays = read_known(known, records, (56, 112))
    assert {k: v for k, v in arrays.facts.items() if k != "sha256"} == {
        "poses": 3, "intrinsics": 4, "depth": 3
    }  # fmt: skip
    assert arrays.notes == files.notes
    for name in ("world_from_cam", "intrinsics", "z_depth", "has_pose", "has_intrinsics", "has_depth"):
        found, expected = getattr(arrays.priors, name), getattr(files.priors, name)
        np.testing.assert_allclose(found, expected, atol=1e-5, rtol=1e-6, err_msg=name)


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ({"cam_from_world": np.zeros((2, 4, 3))}, ("cam_from_world of view 0", "4x3")),
        ({"cam_from_world": [None, np.eye(4) * 2]}, ("cam_from_world of view 1",)),
        ({"cam_from_world": [np.eye(4), np.eye(4) * [1, 1, -1, 1]]}, ("cam_from_world of view 1",)),
        ({"cam_from_world": np.stack([np.eye(4), np.eye(4)[::-1]])}, ("cam_from_world of view 1",)),
        ({"cam_from_world": [np.eye(3, 4), np.array("left.png")]}, ("cam_from_world of view 1",)),
        ({"intrinsics": [np.eye(3), np.eye(2)]}, ("intrinsics of view 1", "3x3")),
        ({"intrinsics": np.diag([0.0, 1, 1])}, ("intrinsics of view 0",)),
        ({"intrinsics": [np.eye(3), np.where(np.eye(3) > 0, 1, np.inf)]}, ("intrinsics of view 1",)),
        ({"z_depth": np.ones((2, 8, 8, 1))}, ("z_depth of view 0", "8x8x1")),
        ({"cam_from_world": [np.eye(4)] * 3, "z_depth": np.ones((2, 4, 8))}, ("cam_from_world has 3",)),
    ],
)  # fmt: skip
def test_wrong_arrays_raise_at_once(arguments, named):
    with pytest.raises(UsageError) as error:
        KnownViews(**arguments)
    assert all(part in str(error.value) for part in named)


def test_arrays_that_do_not_fit_the_views_raise():
    records = [_record("a.jpg"), _record("b.jpg")]
    with pytest.raises(UsageError, match="cam_from_world has 3 entries for 2 views"):
        read_known(KnownViews(np.tile(np.eye(4), (3, 1, 1))), records, (56, 112))
    with pytest.raises(InputError, match=r"z_depth of view 1: .*b\.jpg"):
        read_known(KnownViews(z_depth=[None, np.ones((10, 10))]), records, (56, 112))
    with pytest.raises(InputError, match="z_depth"):
        read_known(KnownViews(z_depth=np.zeros((2, 50, 100))), records, (56, 112))
    with pytest.raises(UsageError, match="one view"):
        read_known(KnownViews([np.eye(4), None]), records, (56, 112))
    assert not KnownViews()


def test_reconstruct_takes_known_arrays(tmp_path):
    for i in range(3):
        noise = np.random.default_rng(i).integers(0, 255, (48, 64, 3), dtype=np.uint8)
        Image.fromarray(noise).save(tmp_path / f"{i}.png")
    cam_from_world = np.linalg.inv(_poses(3))
    intrinsics = np.array([[60, 0, 32], [0, 60, 24], [0, 0, 1.0]])
    known = manyview.KnownViews([*cam_from_world[:2], None], intrinsics)
    model = tiny_pi3x()
    plain, guided = (manyview.reconstruct(tmp_path, model, known=k) for k in (KnownFiles(), known))
    facts = guided.settings["known"]
    assert (facts["poses"], facts["intrinsics"], facts["depth"]) == (2, 3, 0)
    assert "known" not in plain.settings
    assert not np.allclose(guided.z_depth, plain.z_depth, rtol=1e-4)
    with pytest.raises(UsageError, match="cam_from_world"):
        manyview.reconstruct(tmp_path, model, known=manyview.KnownViews(cam_from_world[:2]))
