"""Figures of cameras against those of published evaluation code on the same cameras."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from manyview.evaluate.metrics.pose import pair_errors
from manyview.evaluate.metrics.trajectory import Alignment, trajectory_errors
from manyview.evaluate.protocols.averages import averaged
from manyview.evaluate.protocols.measures import RelativePose, Trajectory
from manyview.evaluate.protocols.measures.first_camera import scene_scales
from manyview.evaluate.protocols.measures.fit_cameras import fit_cameras, moved
from manyview.evaluate.protocols.published import PROTOCOLS
from manyview.geometry.align import umeyama

from ..published_cases import published_case
from .scene_pairs import flash_pair, lost, of_cameras, similar, truth


def trajectory_of(protocol: str) -> Trajectory:
    """The protocol's measure of world-to-camera paths."""
    measures = PROTOCOLS[protocol].measures
    return next(m for m in measures if isinstance(m, Trajectory) and m.of == "w2c")


@pytest.mark.parametrize("name", ["noise", "perfect", "shifted"])
@pytest.mark.parametrize("frames", [100, 1000])
def test_world_to_camera_paths_are_those_of_fastvggt(name: str, frames: int) -> None:
    case = published_case(f"fastvggt_w2c_{name}")
    pair = of_cameras(case.inputs["estimate_w2c"], np.linalg.inv(case.inputs["true_c2w"]))
    own = trajectory_of(f"fastvggt-scannet50-{frames}").figures(pair)
    case.check(
        ate=own["w2c_ate"],
        are=own["w2c_are_deg"],
        rpe_rot=own["w2c_rpe_rotation_deg"],
        rpe_trans=own["w2c_rpe_translation"],
    )


@pytest.mark.parametrize("name", ["plain", "moved"])
def test_paths_in_scene_distances_are_those_of_flashvggt(name: str) -> None:
    case = published_case(f"flashvggt_{name}")
    pair = flash_pair(case)
    found, true = scene_scales(pair)
    own = trajectory_of("flashvggt").figures(pair)
    case.check(
        estimated_scene_scale=found,
        true_scene_scale=true,
        pose_ape=own["w2c_ate"],
        pose_are=own["w2c_are_norm"],
        pose_rpe_translation=own["w2c_rpe_translation"],
        pose_rpe_rotation=own["w2c_rpe_rotation_norm"],
    )
    without = trajectory_of("flashvggt").figures(dataclasses.replace(pair, true_points=None))
    assert without["w2c_ate"] is None and without["w2c_are_norm"] == own["w2c_are_norm"]


def test_a_path_of_world_to_camera_matrices_depends_on_neither_world() -> None:
    pair = truth(6)
    measure = Trajectory(of="w2c", origin=True)
    assert measure.figures(similar(pair))["ate"] < 1e-9
    assert measure.figures(similar(pair))["are_deg"] < 1e-5
    # Without the first view, the second is the one that both worlds are turned to.
    assert Trajectory(of="w2c").figures(lost(similar(pair), 0))["rpe_translation"] > 0


@pytest.mark.parametrize("how", ["none", "scale", "se3", "sim3"])
def test_paths_are_those_of_evo(how: Alignment) -> None:
    case = published_case("evo")
    found, true = (torch.from_numpy(case.inputs[f"{side}_c2w"])[:, :3] for side in ("estimated", "true"))
    errors = trajectory_errors(found, true, how)
    case.check(
        **{
            f"{how}_ate": errors.ate.rmse,
            f"{how}_are_deg": errors.are_deg.rmse,
            f"{how}_rpe_translation": errors.rpe_translation.rmse,
            f"{how}_rpe_rotation_deg": errors.rpe_rotation_deg.rmse,
        }
    )


def test_paths_are_those_of_pi3() -> None:
    case = published_case("evo")
    pair = of_cameras(*(np.linalg.inv(case.inputs[f"{side}_c2w"]) for side in ("estimated", "true")))
    (measure,) = (m for m in PROTOCOLS["pi3-trajectory"].measures if isinstance(m, Trajectory))
    own = measure.figures(pair)
    case.check(**{f"pi3_{name}": own[name] for name in ("ate", "rpe_translation", "rpe_rotation_deg")})


def test_a_rotation_that_is_open_has_no_error() -> None:
    case = published_case("evo")
    line = torch.from_numpy(case.inputs["true_c2w"])[:, :3].clone()
    line[:, :, 3] = torch.arange(len(line))[:, None] * torch.tensor([1.0, 2.0, 0.5])
    for how in ("se3", "sim3"):
        errors = trajectory_errors(line, line, how)
        assert errors.are_deg is None and errors.are_norm is None and errors.ate.rmse < 1e-9
        assert trajectory_errors(line, line, how, origin=True).are_deg.rmse < 1e-5
    assert trajectory_errors(line, line, "scale").are_deg.rmse < 1e-5


def relative_pose(protocol: str, thresholds: tuple[int, ...]) -> RelativePose:
    (measure,) = (m for m in PROTOCOLS[protocol].measures if isinstance(m, RelativePose))
    return dataclasses.replace(measure, thresholds=thresholds)


@pytest.mark.parametrize("who", ["vggt", "pi3"])
def test_areas_of_relative_poses_are_those_of_vggt_and_pi3(who: str) -> None:
    case, thresholds = published_case("auc"), (3, 5, 15, 30)
    measure = relative_pose(f"{who}-pose", thresholds)
    plus_one = dataclasses.replace(measure, binning="vggt-plus-one")
    pairs = [of_cameras(*two) for two in zip(case.inputs["estimated_w2c"], case.inputs["true_w2c"])]
    own = [measure.figures(pair) for pair in pairs]
    pooled = averaged([("", one) for one in own], "pooled")
    other = averaged([("", plus_one.figures(pair)) for pair in pairs], "scenes")  # as many pairs a scene
    for t in thresholds:
        case.check(
            **{
                f"{who}_auc_{t}_per_scene": [one[f"auc_{t}"] / 100 for one in own],
                f"{who}_auc_{t}_pooled": pooled[f"auc_{t}"] / 100,
                f"{who}_rra_{t}_pooled": pooled[f"rra_{t}"] / 100,
                f"{who}_rta_{t}_pooled": pooled[f"rta_{t}"] / 100,
                f"{who}_integral_auc_{t}_pooled": pooled[f"auc_integral_{t}"] / 100,
                f"{who}_auc_{t}_torch_pooled": other[f"auc_{t}"] / 100,
            }
        )
    cameras = [torch.from_numpy(one) for one in (pairs[0].found_cameras, pairs[0].true_cameras)]
    errors = pair_errors(*(one.flip(0) if who == "pi3" else one for one in cameras))
    for kind, values in (("rotation", errors.rotation_deg), ("translation", errors.translation_deg)):
        published = case.outputs[f"{who}_{kind}_errors_scene0"]
        np.testing.assert_allclose(np.sort(values), np.sort(published), atol=1e-7)


def test_areas_of_relative_poses_are_those_of_depth_anything_3() -> None:
    case = published_case("da3_auc")
    measure = relative_pose("da3-pose", (3, 5, 15, 30))
    pairs = [of_cameras(*two) for two in zip(case.inputs["estimated_w2c"], case.inputs["true_w2c"])]
    own = [measure.figures(pair) for pair in pairs]
    mean = averaged([("", one) for one in own], PROTOCOLS["da3-pose"].average)
    for t in (3, 5, 15, 30):
        case.check(
            **{
                f"auc{t:02}_per_scene": [one[f"auc_{t}"] / 100 for one in own],
                f"auc{t:02}_mean": mean[f"auc_{t}"] / 100,
            }
        )


def test_a_similarity_of_most_cameras_is_that_of_depth_anything_3() -> None:
    case = published_case("da3_alignment")
    found, true = (case.inputs[f"{side}_w2c"][:, :3] for side in ("estimated", "true"))
    matrix = fit_cameras(found, true)
    scale = np.cbrt(np.linalg.det(matrix[:3, :3]))
    centres = [np.linalg.inv(case.inputs[f"{side}_w2c"])[:, :3, 3] for side in ("estimated", "true")]
    errors = np.linalg.norm(moved(matrix, centres[0]) - centres[1], axis=1)
    case.check(
        ransac_scale=scale,
        ransac_rotation=matrix[:3, :3] / scale,
        ransac_translation=matrix[:3, 3],
        ransac_median_centre_error=np.median(errors),
        ransac_mean_centre_error=errors.mean(),
    )
    plain = umeyama(*(torch.from_numpy(one) for one in centres))
    case.check(**dict(zip(("umeyama_scale", "umeyama_rotation", "umeyama_translation"), plain)))
    # Fewer than three, or on a line: not determined. Views without a camera are left out.
    assert fit_cameras(found[:2], true[:2]) is None
    line = np.tile(np.eye(4)[:3], (5, 1, 1))
    line[:, 0, 3] = np.arange(5)
    assert fit_cameras(line, true[:5]) is None and fit_cameras(found[:5], line) is None
    lost = np.concatenate([np.full((1, 3, 4), np.nan), found])
    np.testing.assert_allclose(fit_cameras(lost, np.concatenate([true[:1], true])), matrix)
