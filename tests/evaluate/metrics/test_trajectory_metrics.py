"""ATE and RPE against evo's own figures, a naive twin, and paths that do not determine an alignment."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from manyview.evaluate.metrics.trajectory import (
    Alignment,
    aligned_poses,
    fit_alignment,
    moved_to_origin,
    statistics,
    trajectory_errors,
)

from .evo_paths import pairs


def poses(seed: int, count: int = 12) -> torch.Tensor:
    generator = np.random.default_rng(seed)
    rotation = Rotation.random(count, rng=generator).as_matrix()
    return torch.from_numpy(np.concatenate([rotation, generator.normal(size=(count, 3, 1))], -1))


def similar(world_from_cam: torch.Tensor, scale: float = 2.5) -> torch.Tensor:
    """The same path in another world and scale."""
    turn = torch.from_numpy(Rotation.random(rng=np.random.default_rng(5)).as_matrix())
    centres = scale * world_from_cam[..., 3] @ turn.T + torch.tensor([1.0, -2.0, 3.0]).double()
    return torch.cat([turn @ world_from_cam[..., :3], centres[..., None]], -1)


def twin(found: torch.Tensor, truth: torch.Tensor, delta: int) -> tuple[list[float], list[float]]:
    """RPE written with 4x4 matrices, one step at a time."""

    def square(pose: torch.Tensor) -> np.ndarray:
        return np.vstack([pose.numpy(), [0, 0, 0, 1]])

    lengths, angles = [], []
    for i in range(len(found) - delta):
        true = np.linalg.inv(square(truth[i])) @ square(truth[i + delta])
        own = np.linalg.inv(square(found[i])) @ square(found[i + delta])
        left = np.linalg.inv(true) @ own
        lengths.append(float(np.linalg.norm(left[:3, 3])))
        angles.append(float(np.degrees(Rotation.from_matrix(left[:3, :3]).magnitude())))
    return lengths, angles


@pytest.mark.parametrize("delta", [1, 3])
def test_steps_are_the_twins(delta: int) -> None:
    found, truth = poses(0), poses(1)
    errors = trajectory_errors(found, truth, "none", delta)
    lengths, angles = twin(found, truth, delta)
    assert errors.rpe_translation.mean == pytest.approx(np.mean(lengths))
    assert errors.rpe_rotation_deg.rmse == pytest.approx(np.sqrt(np.mean(np.square(angles))))
    assert errors.rpe_translation.median == pytest.approx(np.median(lengths))
    assert errors.ate.mean == pytest.approx(float((found - truth)[..., 3].norm(dim=-1).mean()))
    assert errors.ate.std == pytest.approx(np.std((found - truth)[..., 3].norm(dim=-1).numpy()))


@pytest.mark.parametrize(
    ("how", "exact"), [("none", False), ("scale", False), ("se3", False), ("sim3", True)]
)
def test_only_sim3_undoes_a_similarity(how: Alignment, exact: bool) -> None:
    truth = poses(2)
    errors = trajectory_errors(similar(truth), truth, how)
    assert (errors.ate.rmse < 1e-9) is exact
    assert (errors.rpe_translation.rmse < 1e-9) is (how in ("scale", "sim3"))
    assert errors.rpe_rotation_deg.rmse < 1e-5
    assert (trajectory_errors(similar(truth, 1.0), truth, "se3").ate.rmse) < 1e-9
    if how in ("scale", "sim3"):
        assert errors.scale == pytest.approx(1 / 2.5)


def test_no_alignment_is_better_than_the_least_squares() -> None:
    found, truth = poses(3), poses(4)
    best = trajectory_errors(found, truth, "sim3").ate.rmse
    similarity = fit_alignment(found[..., 3], truth[..., 3])
    for seed in range(5):
        nudge = Rotation.from_rotvec(np.random.default_rng(seed).normal(size=3) * 0.05).as_matrix()
        turned = torch.from_numpy(nudge) @ aligned_poses(similarity, found)
        assert float((turned[..., 3] - truth[..., 3]).square().sum(-1).mean().sqrt()) > best
    assert trajectory_errors(found, truth, "se3").ate.rmse >= best


def test_origin_makes_the_first_poses_equal() -> None:
    found, truth = poses(6), poses(7)
    moved = moved_to_origin(found, truth)
    torch.testing.assert_close(moved[0], truth[0])
    errors = trajectory_errors(found, truth, "none", origin=True)
    assert errors.ate.minimum < 1e-12
    assert errors.rpe_translation.mean == pytest.approx(
        trajectory_errors(found, truth, "none").rpe_translation.mean
    )


def test_paths_that_determine_nothing_have_a_stated_answer() -> None:
    truth = poses(8)
    still = truth.clone()
    still[..., 3] = torch.tensor([4.0, 5.0, 6.0])
    errors = trajectory_errors(still, truth, "sim3")
    centred = truth[..., 3] - truth[..., 3].mean(0)
    assert errors.ate.rmse == pytest.approx(float(centred.square().sum(-1).mean().sqrt()))
    assert errors.rpe_translation.mean == pytest.approx(float(truth[..., 3].diff(dim=0).norm(dim=-1).mean()))
    assert trajectory_errors(truth, still, "sim3").ate is None
    assert trajectory_errors(still, still, "sim3").ate is None
    assert trajectory_errors(still, truth, "se3").ate.rmse == pytest.approx(errors.ate.rmse)
    for count in (1, 2):
        for how in ("se3", "sim3"):
            assert trajectory_errors(truth[:count], truth[:count], how).ate is None
        assert trajectory_errors(truth[:count], truth[:count], "none").ate.rmse == 0.0
    assert trajectory_errors(truth[:1], truth[:1], "none").rpe_translation is None
    assert statistics(torch.zeros(0)) is None


def test_a_straight_path_is_aligned_whatever_the_turn_about_it() -> None:
    truth = poses(9)
    truth[..., 3] = torch.arange(12.0)[:, None] * torch.tensor([1.0, 2.0, -1.0])
    for how in ("se3", "sim3"):
        errors = trajectory_errors(similar(truth, 1.0 if how == "se3" else 3.0), truth, how)
        assert errors.ate.rmse < 1e-9 and errors.rpe_translation.rmse < 1e-9


def test_a_lost_camera_counts_as_wrong() -> None:
    truth = poses(10)
    found = truth.clone()
    found[3] = float("nan")
    errors = trajectory_errors(found, truth, "sim3")
    lost = float((truth[3, :, 3] - truth[..., 3].mean(0)).norm())
    assert errors.ate.maximum == pytest.approx(lost) and errors.ate.median < 1e-9
    assert errors.rpe_rotation_deg.maximum == 180.0
    nothing = trajectory_errors(torch.full_like(truth, float("nan")), truth, "sim3")
    assert nothing.ate is None and nothing.rpe_rotation_deg.minimum == 180.0
    with pytest.raises(ValueError, match="best"):
        trajectory_errors(found, truth, "best")  # type: ignore[arg-type]


# Against evo. Its figures of paths from formulas lie in the repository, with the calls that made them.

_EVO = json.loads((Path(__file__).parents[2] / "data" / "evo_numbers.json").read_text())
_FIELDS = {
    "rmse": "rmse",
    "mean": "mean",
    "median": "median",
    "std": "std",
    "min": "minimum",
    "max": "maximum",
}


@pytest.mark.parametrize("how", ["none", "scale", "se3", "sim3"])
@pytest.mark.parametrize("name", sorted(_EVO["pairs"]))
def test_evo_says_the_same_of_paths_from_formulas(name: str, how: Alignment) -> None:
    found, truth = (torch.from_numpy(path) for path in pairs()[name])
    expected = _EVO["pairs"][name][how]
    compared = 0
    for delta in (1, 10):
        errors = trajectory_errors(found, truth, how, delta)
        own = {
            "ate": errors.ate,
            f"rpe{delta}_translation": errors.rpe_translation,
            f"rpe{delta}_rotation_deg": errors.rpe_rotation_deg,
        }
        if how != "none":
            assert errors.scale == pytest.approx(expected["scale"], rel=1e-9)
        for kind, ours in own.items():
            if kind not in expected:  # ten poses have no step of ten frames
                assert ours is None
                continue
            for key, field in _FIELDS.items():
                assert getattr(ours, field) == pytest.approx(expected[kind][key], rel=1e-7, abs=1e-9), kind
                compared += 1
    assert compared == (36 if len(truth) > 10 else 24)


# And of real paths, beside the checkout only: their licences do not all allow copies.


def _tum(path: Path) -> tuple[np.ndarray, torch.Tensor]:
    rows = np.loadtxt(path)
    rotation = Rotation.from_quat(rows[:, 4:8]).as_matrix()
    return rows[:, 0], torch.from_numpy(np.concatenate([rotation, rows[:, 1:4, None]], -1))


def _pair(folder: Path, reference: str, estimate: str) -> tuple[torch.Tensor, torch.Tensor]:
    if reference.startswith("KITTI"):
        truth, found = (
            torch.from_numpy(np.loadtxt(folder / name).reshape(-1, 3, 4)) for name in (reference, estimate)
        )
        return found, truth
    (true_times, truth), (times, found) = _tum(folder / reference), _tum(folder / estimate)
    nearest = np.abs(true_times[None] - times[:, None]).argmin(1)
    near = np.abs(true_times[nearest] - times) <= 0.01
    return found[near], truth[nearest[near]]


@pytest.mark.parametrize("number", range(5))
def test_evo_says_the_same(number: int, shared_data: Path) -> None:
    folder = shared_data / "trajectories-a"
    expected = json.loads((folder / "expected_evo.json").read_text())["pairs"][number]
    found, truth = _pair(folder, expected["reference"], expected["estimate"])
    assert len(found) == expected["associated_poses"]
    for theirs, how in (("none", "none"), ("scale_only", "scale"), ("se3", "se3"), ("sim3", "sim3")):
        errors = trajectory_errors(found, truth, how)
        # fr1_xyz's rotations are written with four decimals: angles agree to a hundredth of a degree.
        for name, own, tolerance in (
            ("ape_translation_m", errors.ate, 1e-6),
            ("rpe1_translation_m", errors.rpe_translation, 1e-6),
            ("rpe1_rotation_deg", errors.rpe_rotation_deg, 1e-6),
        ):
            for field, key in (("rmse", "rmse"), ("mean", "mean"), ("median", "median"), ("std", "std"),
                               ("minimum", "min"), ("maximum", "max")):  # fmt: skip
                value = expected[theirs][name][key]
                assert getattr(own, field) == pytest.approx(value, rel=tolerance, abs=1e-6), (how, name, key)
        if how != "none":
            assert errors.scale == pytest.approx(expected[theirs]["alignment"]["scale"], rel=1e-9)
