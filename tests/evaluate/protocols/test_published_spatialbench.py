"""SpatialBench's figures against its rules worked by hand in numpy."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from manyview.evaluate.metrics.nearest import thin
from manyview.evaluate.protocols.measures.fit_cameras import fit_norms
from manyview.evaluate.protocols.published import PROTOCOLS
from manyview.evaluate.protocols.scene_pair import ScenePair
from manyview.geometry.unproject_np import invert_rigid, pixel_grid, unproject

from .scene_pairs import truth


def noisy(pair: ScenePair, scale: float = 2.0, noise: float = 0.05) -> ScenePair:
    """An estimate in a world of its own, with errors."""
    generator = np.random.default_rng(3)
    views = len(pair.true_cameras)
    world_from_cam = invert_rigid(pair.true_cameras)
    turns = Rotation.from_rotvec(generator.normal(size=(views, 3)) * noise).as_matrix()
    own = Rotation.from_rotvec([0.3, -0.8, 0.4]).as_matrix()
    rotation = own @ world_from_cam[:, :, :3] @ turns
    moved = world_from_cam[:, :, 3] + generator.normal(size=(views, 3)) * noise
    centres = moved @ own.T / scale + [1.0, 2, 3]
    depth = pair.true_depth / scale * np.exp(generator.normal(size=pair.true_depth.shape) * noise)
    cameras = invert_rigid(np.concatenate([rotation, centres[:, :, None]], -1))
    return dataclasses.replace(pair, found_cameras=cameras, found_depth=depth.astype(np.float32))


def test_depth_by_hand() -> None:
    pair = noisy(truth())
    true = pair.true_depth.copy()
    true[:, :3] = np.nan
    found = pair.found_depth.copy()
    found[0, 10, 5:9] = 0
    found[1, 11, 3] = 1e-7
    pair = dataclasses.replace(pair, true_depth=true, found_depth=found)
    figures = PROTOCOLS["spatialbench-sparse"].figures(pair)
    valid = np.isfinite(true)
    p, g = found[valid].astype(float), true[valid].astype(float)
    p = p * np.median(g) / (np.median(p) + 1e-8)
    p, g = p[p > 1e-6], g[p > 1e-6]
    ratio = np.maximum(p / g, g / p)
    expected = {
        "abs_rel": (np.abs(p - g) / g).mean(),
        "sq_rel": ((p - g) ** 2 / g).mean(),
        "depth_rmse": np.sqrt(((p - g) ** 2).mean()),
        "log_rmse": np.sqrt(((np.log(p) - np.log(g)) ** 2).mean()),
        "delta_125": 100 * (ratio < 1.25).mean(),
        "delta_156": 100 * (ratio < 1.25**2).mean(),
        "delta_195": 100 * (ratio < 1.25**3).mean(),
        "delta_103": 100 * (ratio < 1.03).mean(),
        "delta_105": 100 * (ratio < 1.05).mean(),
        "delta_110": 100 * (ratio < 1.1).mean(),
    }
    assert {name: figures[name] for name in expected} == pytest.approx(expected, rel=1e-6)
    fitted = found * np.median(true[valid]) / (np.median(found[valid]) + 1e-8)
    steps = []
    for i in range(len(true) - 1):
        both = valid[i] & valid[i + 1]
        own, wanted = (np.abs(one[i + 1] - one[i])[both].mean() for one in (fitted, true))
        steps.append(abs(own - wanted))
    assert figures["tgm"] == pytest.approx(np.mean(steps), rel=1e-5)
    single = dataclasses.replace(
        pair, **{name: getattr(pair, name)[:1] for name in ("found_depth", "true_depth", "seen")}
    )
    alone = PROTOCOLS["spatialbench-single"].figures(single)
    assert alone["abs_rel"] is not None and "auc_30" not in alone and "tgm" not in alone


def test_pairs_of_cameras_by_hand() -> None:
    """Relative motion is E_i^-1 E_j of cameras in the frame of the first."""
    pair = noisy(truth(views=9), noise=0.1)
    figures = PROTOCOLS["spatialbench-sparse"].figures(pair)

    def based(cameras: np.ndarray) -> np.ndarray:
        whole = np.concatenate([cameras, np.tile([[[0, 0, 0, 1.0]]], (len(cameras), 1, 1))], 1)
        return whole @ np.linalg.inv(whole[0])

    found, true = based(pair.found_cameras), based(pair.true_cameras)
    errors = []
    for i in range(9):
        for j in range(i + 1, 9):
            a, b = np.linalg.inv(found[i]) @ found[j], np.linalg.inv(true[i]) @ true[j]
            turn = Rotation.from_matrix(b[:3, :3].T @ a[:3, :3]).magnitude()
            cosine = abs(a[:3, 3] @ b[:3, 3]) / np.linalg.norm(a[:3, 3]) / np.linalg.norm(b[:3, 3])
            errors.append((np.degrees(turn), np.degrees(np.arccos(cosine))))
    turns, directions = np.array(errors).T
    for bound in (3, 5):
        assert figures[f"rra_{bound}"] == pytest.approx(100 * (turns < bound).mean())
        assert figures[f"rta_{bound}"] == pytest.approx(100 * (directions < bound).mean())
    for bound in (3, 5, 15, 30):
        counts, _ = np.histogram(np.maximum(turns, directions), bins=np.arange(bound + 1))
        assert figures[f"auc_{bound}"] == pytest.approx(100 * (counts.cumsum() / len(turns)).mean())


def test_steps_of_a_path_are_means() -> None:
    pair = noisy(truth(views=6))
    figures = PROTOCOLS["spatialbench-sparse"].figures(pair)
    own, true = invert_rigid(pair.found_cameras), invert_rigid(pair.true_cameras)
    a, b = own[:, :, 3], true[:, :, 3]
    u, d, vt = np.linalg.svd((b - b.mean(0)).T @ (a - a.mean(0)))
    sign = np.array([1, 1, np.sign(np.linalg.det(u @ vt))])
    rotation, scale = u @ np.diag(sign) @ vt, (d * sign).sum() / ((a - a.mean(0)) ** 2).sum()
    centres = scale * (a - a.mean(0)) @ rotation.T + b.mean(0)
    assert figures["ate"] == pytest.approx(np.sqrt(((centres - b) ** 2).sum(1).mean()))
    lengths, angles = [], []
    for i in range(5):
        step = (rotation @ own[i, :, :3]).T @ (centres[i + 1] - centres[i])
        wanted = true[i, :, :3].T @ (b[i + 1] - b[i])
        turn = own[i, :, :3].T @ own[i + 1, :, :3]
        true_turn = true[i, :, :3].T @ true[i + 1, :, :3]
        lengths.append(np.linalg.norm(true_turn.T @ (step - wanted)))
        angles.append(np.degrees(Rotation.from_matrix(true_turn.T @ turn).magnitude()))
    assert figures["rpe_translation"] == pytest.approx(np.mean(lengths))
    assert figures["rpe_rotation_deg"] == pytest.approx(np.mean(angles))


def test_the_similarity_is_of_norms() -> None:
    pair = noisy(truth(views=6))
    matrix = fit_norms(pair.found_cameras, pair.true_cameras)
    a, b = (invert_rigid(c)[:, :, 3] for c in (pair.found_cameras, pair.true_cameras))
    scale = np.linalg.norm(b - b.mean(0)) / np.linalg.norm(a - a.mean(0))
    assert np.cbrt(np.linalg.det(matrix[:3, :3])) == pytest.approx(scale)
    np.testing.assert_allclose(matrix[:3, :3] @ a.mean(0) + matrix[:3, 3], b.mean(0))
    lost = np.concatenate([np.full((1, 3, 4), np.nan), pair.found_cameras[1:]])
    assert fit_norms(lost, pair.true_cameras) is not None
    assert fit_norms(pair.found_cameras, np.repeat(pair.true_cameras[:1], 6, 0)) is None


def test_surfaces_of_a_perfect_estimate() -> None:
    protocol = PROTOCOLS["spatialbench-medium"]
    pair = noisy(truth(views=3, height=48, width=64), noise=0.0)
    k = pair.true_intrinsics * [[[64 / 24], [48 / 18], [1]]]
    nowhere = np.zeros((3, 0, 0, 3), np.float32)
    # A third of a metre is its unit, so that voxels and thresholds suit so few pixels.
    pair = dataclasses.replace(
        pair, true_intrinsics=k, found_intrinsics=k, found_points=nowhere, per_metre=3.0
    )
    measures = protocol.of_group("dtu").measures[len(protocol.measures) :]
    protocol = dataclasses.replace(protocol, measures=measures, group_measures=())
    names = ("surface_f_0.05", "gt_pose_surface_f_0.05")
    nothing = protocol.figures(pair, 1)
    assert [nothing[name] for name in names] == [None, None]  # no cloud, whatever depth there is
    pixels = pixel_grid(48, 64).reshape(-1, 2)
    cloud = unproject(pixels, pair.true_depth.reshape(3, -1), pair.true_cameras, k).reshape(-1, 3)
    pair = dataclasses.replace(pair, cloud=cloud)
    figures = protocol.figures(pair, 1)
    assert min(figures[name] for name in names) > 90 and figures["surface_overall"] < 0.1
    # Beyond the margin around the truth nothing counts: half of the cloud is found by half of the surface.
    half = protocol.figures(dataclasses.replace(pair, cloud=cloud[cloud[:, 0] < np.median(cloud[:, 0])]), 1)
    assert half["surface_precision_0.05"] > 80
    # Wrong cameras spoil the surface that is made with them.
    turned = pair.found_cameras.copy()
    turned[0, :, :3] = turned[0, :, :3] @ Rotation.from_rotvec([0, 0.3, 0]).as_matrix()
    wrong = protocol.figures(dataclasses.replace(pair, found_cameras=turned), 1)
    assert wrong["surface_precision_0.05"] < figures["surface_precision_0.05"] - 5


def test_surfaces_of_sources_have_their_own_settings() -> None:
    """Voxel, truncation, farthest depth, cubes and margin in metres."""
    table = {
        "scannetpp": (0.02, 0.15, 5, 0.02, 0.1),
        "7scenes": (4 / 512, 0.04, 1e6, 4 / 512, None),
        "hiroom": (4 / 512, 0.04, 1e4, 4 / 512, None),
        "nrgbd": (0.02, 0.15, 5, 0.02, 0.1),
        "dtu": (0.02, 0.15, 5, 0.01, 0.1),
    }
    for name in ("spatialbench-medium", "spatialbench-dense"):
        protocol = PROTOCOLS[name]
        assert dict(protocol.group_measures).keys() == table.keys()
        for source, expected in table.items():
            found, true = protocol.of_group(source).measures[-2:]
            for one, cameras in ((found, "found"), (true, "true")):
                settings = one.voxel, one.truncation, one.farthest, one.thinned, one.margin
                assert settings == expected and one.cameras == cameras and one.thresholds == (0.05,)
        assert protocol.of_group("tum").measures == protocol.measures
    assert not PROTOCOLS["spatialbench-sparse"].group_measures


def test_cubes_that_begin_at_the_origin() -> None:
    points = np.array([[0.01, 0, 0], [0.09, 0, 0], [0.11, 0, 0], [-0.01, 0, 0]])
    found = thin(points, 0.1, from_origin=True)
    np.testing.assert_allclose(found[:, 0], [-0.01, 0.05, 0.11])
