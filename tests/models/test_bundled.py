"""The weights in the package: there, free to use, small, and as good as the tables' least claims."""

from __future__ import annotations

import importlib.resources
import json

import pytest
import torch

import manyview
from manyview.attention.plan import Plan
from manyview.evaluate.benchmark import Case
from manyview.evaluate.pose_metrics import auc, pair_errors
from manyview.models.run_options import RunOptions

NAMES = ("manyview-small", "manyview-small-elastic")


def auc_30(name: str, spec: str) -> float:
    """Relative-pose AUC@30 of three easy scenes of eight views."""
    model, case = manyview.load(name), Case("easy", 8)
    found, truth = [], []
    for number in range(3):
        scene = case.render(number, (112, 112))
        with torch.no_grad():
            plan = Plan.parse(spec, model.config.depth)
            found.append(model(scene.images, plan, RunOptions(heads=("camera",))).cam_from_world[0].double())
        truth.append(scene.cam_from_world[0].double())
    errors = pair_errors(torch.stack(found), torch.stack(truth))
    return auc(torch.maximum(errors.rotation_deg, errors.translation_deg).flatten(), 30)


@pytest.mark.parametrize("name", NAMES)
def test_bundled_weights_are_free_and_tell_what_they_are(name: str) -> None:
    model = manyview.load(name)
    assert model.name == name and model.info is not None and model.info.commercial_use is True
    assert model.info.licence == "Apache-2.0"
    assert model.info.metadata["config"] == json.loads(json.dumps(model.config.to_json()))
    assert model.info.metadata["recipe"]["command"].startswith("manyview train")


def test_all_bundled_weights_fit_into_25_megabytes() -> None:
    folder = importlib.resources.files("manyview.models") / "bundled"
    assert sum(len((folder / f"{name}.safetensors").read_bytes()) for name in NAMES) <= 25_000_000


@pytest.mark.parametrize("name", NAMES)
def test_bundled_weights_match_views(name: str) -> None:
    dense, frame = auc_30(name, "dense"), auc_30(name, "frame")
    assert dense > 60 and frame < dense / 3


def test_elastic_weights_serve_plans_that_dense_ones_do_not() -> None:
    small, elastic = (auc_30(name, "avggt:early=3,stride=2x2") for name in NAMES)
    assert elastic > 2 * small
