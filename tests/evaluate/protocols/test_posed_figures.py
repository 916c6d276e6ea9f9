"""Figures on posed pictures: the truth in any similarity is perfect, degenerate cases have stated answers."""

from __future__ import annotations

import dataclasses
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from manyview.evaluate.metrics.trajectory import spread
from manyview.evaluate.protocols.measures import Figures
from manyview.evaluate.protocols.measures.trajectory import Trajectory
from manyview.evaluate.protocols.published import POSED
from manyview.evaluate.protocols.scene_pair import ScenePair
from manyview.evaluate.references.baselines import Baseline, identity, mean_step
from manyview.evaluate.report.posed import posed_json
from manyview.evaluate.runner.records import Evaluation, PlanRow, SceneRows
from manyview.geometry.cameras import compose_rigid, invert_rigid


@dataclasses.dataclass
class Truth:
    """Measured cameras, and depth that is NaN where nothing was measured."""

    cam_from_world: torch.Tensor
    z_depth: torch.Tensor | None = None

    @property
    def centres(self) -> torch.Tensor:
        return invert_rigid(self.cam_from_world)[..., 3]


def figures(found: Baseline, truth: Truth, measure: Any = POSED) -> Figures:
    depth = found.z_depth.float().contiguous().numpy()
    pair = ScenePair(
        found_cameras=found.cam_from_world.double().numpy(),
        true_cameras=truth.cam_from_world.double().numpy(),
        found_depth=depth,
        confidence=np.ones_like(depth),
        found_points=np.zeros((len(depth), 0, 0, 3), dtype=np.float32),
        seen=np.ones(depth.shape, dtype=bool),
        true_depth=None if truth.z_depth is None else truth.z_depth.numpy(),
    )
    return measure.figures(pair)


def aligned_error(cameras: torch.Tensor, truth: Truth) -> float | None:
    return figures(Baseline(cameras, torch.ones(len(cameras), 2, 2)), Truth(truth.cam_from_world))["ate"]


def rotated_by(rotation_vector) -> torch.Tensor:
    return torch.from_numpy(Rotation.from_rotvec(rotation_vector).as_matrix())


def truth_of(views: int = 7, depth: bool = True) -> Truth:
    generator = torch.Generator().manual_seed(3)
    rotation = rotated_by(0.4 * torch.randn(views, 3, generator=generator).double())
    centres = torch.randn(views, 3, 1, generator=generator).double() * 2
    cameras = invert_rigid(torch.cat([rotation, centres], -1))
    z_depth = torch.rand(views, 6, 8, generator=generator) + 1
    z_depth[:, 0] = torch.nan
    return Truth(cameras, z_depth if depth else None)


def in_another_world(truth: Truth, scale: float = 0.2) -> Baseline:
    world = torch.cat([rotated_by([0.3, 1.0, -0.4]), torch.ones(3, 1).double()], -1)
    cameras = compose_rigid(truth.cam_from_world, world.expand_as(truth.cam_from_world))
    cameras = torch.cat([cameras[..., :3], scale * cameras[..., 3:]], -1)
    depth = torch.ones(len(cameras), 6, 8) if truth.z_depth is None else scale * truth.z_depth
    return Baseline(cameras, depth)


def finite(numbers: Figures) -> bool:
    return all(value is None or math.isfinite(value) for value in numbers.values())


def test_the_truth_in_another_world_and_scale_is_perfect() -> None:
    truth = truth_of()
    numbers = figures(in_another_world(truth), truth)
    assert numbers["auc_3"] == numbers["rra_5"] == numbers["rta_5"] == 100.0
    assert numbers["ate"] < 1e-6 and numbers["abs_rel"] < 1e-6 and numbers["delta_125"] == 100.0
    assert figures(in_another_world(truth_of(depth=False)), truth_of(depth=False))["abs_rel"] is None


def test_recalls_and_shares_by_hand() -> None:
    """Three cameras on a line; the last one rotated by ten degrees about its own centre."""
    cameras = torch.eye(4, dtype=torch.float64)[:3].repeat(3, 1, 1)
    cameras[:, 0, 3] = torch.tensor([0.0, -1.0, -4.0])
    truth = Truth(cameras)
    assert spread(truth.centres) == pytest.approx(math.sqrt((25 + 4 + 49) / 9 / 3))
    rotated = cameras.clone()
    rotated[2] = rotated_by([0, math.radians(10), 0]) @ cameras[2]
    numbers = figures(Baseline(rotated, torch.ones(3, 2, 2)), truth)
    # E_i E_j^-1 of the pairs (0, 2) and (1, 2) is rotated; their directions, seen from camera i, are true.
    assert numbers["rra_5"] == pytest.approx(100 / 3) and numbers["rra_15"] == 100.0
    assert numbers["rta_5"] == 100.0 and numbers["rotation_deg"] == pytest.approx(10)
    assert numbers["ate"] == pytest.approx(0, abs=1e-9) and numbers["ate_share"] == pytest.approx(0, abs=1e-9)
    assert numbers["path"] == 4.0


def test_a_moved_camera_costs_what_least_squares_leaves() -> None:
    truth = truth_of(20)
    found = in_another_world(truth, 1.0)
    centres = invert_rigid(found.cam_from_world)[..., 3]
    centres[4, 1] += 0.5
    cameras = torch.cat(
        [found.cam_from_world[..., :3], -found.cam_from_world[..., :3] @ centres[..., None]], -1
    )
    error = aligned_error(cameras, truth)
    # Alignment can only make it smaller than without: 0.5 / sqrt(20).
    assert 0.7 * 0.5 / math.sqrt(20) < error <= 0.5 / math.sqrt(20) + 1e-9


@pytest.mark.parametrize("seed", range(4))
def test_no_trajectory_is_worse_than_one_point(seed: int) -> None:
    truth = truth_of(6)
    chance = identity(6, 6, 8, seed=seed)
    assert aligned_error(chance.cam_from_world, truth) <= spread(truth.centres) + 1e-9
    still = torch.eye(4, dtype=torch.float64)[:3].expand(6, 3, 4)
    assert aligned_error(still, truth) == pytest.approx(spread(truth.centres))


def test_views_without_a_camera_count_as_wrong() -> None:
    truth = truth_of(6)
    found = in_another_world(truth)
    cameras, depth = found.cam_from_world.clone(), found.z_depth.clone()
    cameras[2], depth[2] = torch.nan, torch.nan
    numbers = figures(Baseline(cameras, depth), truth)
    assert finite(numbers)
    assert numbers["auc_30"] == numbers["rra_30"] == pytest.approx(100 * 10 / 15)
    assert numbers["abs_rel"] == pytest.approx(1 / 6, abs=1e-4)
    lost = (truth.centres[2] - truth.centres.mean(0)).norm() / math.sqrt(6)
    assert numbers["ate"] == pytest.approx(float(lost))


@pytest.mark.parametrize("views", [2, 3])
def test_a_motionless_camera_has_stated_answers(views: int) -> None:
    rotation = truth_of(views).cam_from_world[..., :3]
    truth = Truth(torch.cat([rotation, torch.zeros(views, 3, 1).double()], -1))
    numbers = figures(Baseline(truth.cam_from_world, torch.ones(views, 2, 2)), truth)
    assert finite(numbers) and numbers["auc_3"] == 100.0
    assert (numbers["rta_5"], numbers["direction_deg"], numbers["ate_share"]) == (None, None, None)
    # Scale 0 would fit any path, so there is no ATE; results.json has 0 for three cameras or more.
    assert numbers["ate"] is None
    names = ("format", "height", "width", "images_sha256", "path_length", "spread", "depth_views")
    rows = (PlanRow("dense", "", numbers, "dense"),)
    scene = SceneRows("door", "", views, "m", (), "", rows, facts=dict.fromkeys(names, 0))
    stored = posed_json(Evaluation({}, {}, (scene,)))["sets"][0]["rows"][0]["numbers"]["ate"]
    assert stored is None if views == 2 else stored == 0.0


def test_the_mean_step_is_exact_where_all_steps_are_equal() -> None:
    step = torch.cat([rotated_by([0.1, 0.2, 0.0]), torch.rand(3, 1).double()], -1)
    cameras = [truth_of(2).cam_from_world[0]]
    for _ in range(5):
        cameras.append(compose_rigid(step, cameras[-1]))
    truth = Truth(torch.stack(cameras), torch.full((6, 4, 4), 3.0))
    numbers = figures(mean_step(truth.cam_from_world, truth.z_depth, (4, 4)), truth)
    assert numbers["auc_3"] == 100.0 and numbers["ate"] < 1e-6 and numbers["abs_rel"] == pytest.approx(0)


def test_the_mean_step_of_one_view_is_that_view() -> None:
    one = mean_step(truth_of(1).cam_from_world, None, (4, 4))
    assert torch.equal(one.cam_from_world, torch.eye(4, dtype=torch.float64)[None, :3])
    assert torch.equal(one.z_depth, torch.ones(1, 4, 4))


def test_identity_is_chance_in_direction_and_none_in_rotation() -> None:
    truth = truth_of(40)
    numbers = figures(identity(40, 6, 8, seed=0), truth)
    # Lines between random points are 60 degrees apart in the median.
    assert numbers["direction_deg"] == pytest.approx(60, abs=4)
    still = torch.cat([torch.eye(3).expand(40, 3, 3), truth.cam_from_world[..., 3:]], -1)
    straight = Truth(still.double())
    assert figures(identity(40, 2, 2, seed=0), straight)["rra_5"] == 100.0


@pytest.mark.parametrize(("name", "index"), [("KITTI_00_ORB", 3), ("KITTI_00_SPTAM", 4)])
def test_ate_is_that_of_evo(name: str, index: int, shared_data: Path) -> None:
    folder = shared_data / "trajectories-a"
    pair = json.loads((folder / "expected_evo.json").read_text())["pairs"][index]
    assert pair["estimate"] == f"{name}.txt"
    found, truth = (
        invert_rigid(torch.from_numpy(np.loadtxt(folder / f"{n}.txt").reshape(-1, 3, 4)))
        for n in (name, "KITTI_00_gt")
    )
    expected = pair["sim3"]["ape_translation_m"]["rmse"]
    numbers = figures(Baseline(found, torch.ones(len(found), 1, 1)), Truth(truth), Trajectory())
    assert numbers["ate"] == pytest.approx(expected, rel=1e-3)
    assert numbers["path"] == pytest.approx(pair["reference_path_length_m"], rel=1e-4)
