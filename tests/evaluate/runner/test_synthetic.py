"""The table of held-out scenes: oracles score perfectly, baselines at chance, plans differ."""

from __future__ import annotations

import json

import pytest
import torch

from manyview.errors import UsageError
from manyview.evaluate.protocols.measures import Figures
from manyview.evaluate.protocols.rendered import quick_errors, quick_figures
from manyview.evaluate.references.baselines import Baseline, identity, mean_pose
from manyview.evaluate.report.benchmark import synthetic_table
from manyview.evaluate.runner.rendered import rendered_pairs
from manyview.evaluate.runner.synthetic import evaluate_synthetic
from manyview.models.part_configs import DenseHeadConfig, EncoderConfig
from manyview.models.predictions import Predictions
from manyview.models.vggt.config import CameraHeadConfig, VGGTConfig
from manyview.models.vggt.model import VGGT
from manyview.synthetic import SceneBatch, SceneOptions, render_scenes
from manyview.synthetic.held_out import HELD_OUT_BANK, HELD_OUT_SEED
from tests.evaluate.protocols.test_rendered import predictions

DENSE_HEAD = DenseHeadConfig(features=8, out_channels=(8, 8, 8, 8))


@pytest.fixture(scope="module")
def model() -> VGGT:
    torch.manual_seed(0)
    config = VGGTConfig(
        dim=32,
        depth=2,
        num_heads=2,
        patch_size=8,
        registers=1,
        image_size=32,
        taps=(0, 0, 1, 1),
        encoder=EncoderConfig(depth=1, num_heads=2, registers=1, native_grid=4),
        camera_head=CameraHeadConfig(depth=1, num_heads=2),
        depth_head=DENSE_HEAD,
        point_head=DENSE_HEAD,
        track_head=None,
    )
    model = VGGT(config)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    return model.eval()


@pytest.fixture(scope="module")
def batch() -> SceneBatch:
    return render_scenes([HELD_OUT_SEED, HELD_OUT_SEED + 1], 4, 24, 32, SceneOptions.medium())


def figures(found: Baseline | Predictions, truth: SceneBatch) -> Figures:
    return quick_figures([quick_errors(pair) for pair in rendered_pairs(found, truth)])


def test_the_truth_itself_scores_perfectly(batch: SceneBatch) -> None:
    cameras = torch.cat([batch.cam_from_world[..., :3], 0.3 * batch.cam_from_world[..., 3:]], -1)
    numbers = figures(Baseline(cameras, 0.3 * batch.z_depth), batch)
    assert (numbers["auc_5"], numbers["auc_30"], numbers["delta_125"]) == (100.0, 100.0, 100.0)
    assert numbers["abs_rel"] < 1e-5 and numbers["rotation_median_deg"] < 1e-2
    assert numbers["confidence_excess"] is None


def test_confidence_that_knows_the_error_has_no_excess(batch: SceneBatch) -> None:
    noisy = batch.z_depth * (1 + 0.2 * torch.rand_like(batch.z_depth))
    error = (noisy - batch.z_depth).abs() / batch.z_depth.clamp(min=1e-3)
    blind = figures(predictions(batch, z_depth=noisy), batch)
    wrong = figures(predictions(batch, z_depth=noisy, depth_conf=error), batch)
    assert blind["confidence_excess"] is not None and wrong["confidence_excess"] is not None
    assert 0.2 < blind["confidence_excess"] < wrong["confidence_excess"]


def test_chance_is_near_two_percent() -> None:
    truth = render_scenes(range(HELD_OUT_SEED, HELD_OUT_SEED + 24), 8, 8, 8, SceneOptions())
    numbers = figures(identity(24, 8, 8, 8, seed=0, dtype=torch.float32), truth)
    assert 0.5 < numbers["auc_30"] < 5.0
    assert numbers["auc_5"] < 0.3
    assert 15 < numbers["rotation_median_deg"] < 45


def test_mean_pose_of_one_scene_is_that_scene(batch: SceneBatch) -> None:
    one = batch[:1]
    numbers = figures(mean_pose([one]), one)
    assert numbers["auc_5"] == 100.0
    rotation = mean_pose([batch]).cam_from_world[..., :3]
    torch.testing.assert_close(rotation @ rotation.mT, torch.eye(3).expand_as(rotation), atol=1e-5, rtol=0)
    assert bool((torch.det(rotation) > 0).all())


def test_table_has_plans_and_baselines_and_repeats(model: VGGT) -> None:
    table = evaluate_synthetic(model, scenes=3, views=3, batch=2)
    again = evaluate_synthetic(model, scenes=3, views=3, batch=3)
    assert list(table.rows) == ["dense", "frame", "identity", "mean pose"]
    assert table.rows["dense"]["auc_30"] == pytest.approx(again.rows["dense"]["auc_30"])
    assert table.rows["dense"]["abs_rel"] == pytest.approx(again.rows["dense"]["abs_rel"], rel=1e-4)
    assert table.rows["dense"] != table.rows["frame"]
    settings = table.settings
    assert settings["options"]["texture_bank_seed"] == HELD_OUT_BANK
    assert (settings["height"], settings["width"]) == (24, 32)
    assert json.loads(json.dumps(table.to_json()))["rows"]["mean pose"]["confidence_excess"] is None
    lines = synthetic_table(table).splitlines()
    assert len(lines) == 7 and "AUC@30" in lines[0] and lines[3].startswith("identity")


def test_named_plans_and_another_seed(model: VGGT) -> None:
    plans = {"first layer cut": "0:frame,1:dense"}
    first = evaluate_synthetic(model, plans, scenes=2, views=2, baselines=False, options=SceneOptions())
    other = evaluate_synthetic(
        model, plans, scenes=2, views=2, baselines=False, options=SceneOptions(), seed=1
    )
    assert list(first.rows) == ["first layer cut"]
    assert first.rows["first layer cut"]["abs_rel"] != other.rows["first layer cut"]["abs_rel"]


def test_too_little_to_evaluate_is_refused(model: VGGT) -> None:
    with pytest.raises(UsageError, match="3 of 1"):
        evaluate_synthetic(model, scenes=3, views=1)
    with pytest.raises(UsageError, match="nonsense"):
        evaluate_synthetic(model, ("nonsense",), scenes=1, views=2)
