"""The weights in the package: there, free to use, small, and as good as the tables' least claims."""

from __future__ import annotations

import importlib.resources
import json
from pathlib import Path

import pytest
import torch
from PIL import Image

import manyview
from manyview.attention.plan import Plan
from manyview.evaluate.metrics.pose import auc, pair_errors
from manyview.evaluate.protocols.procedural import Case
from manyview.models.checkpoints.named import NamedModel
from manyview.models.families import MODELS
from manyview.models.run_options import RunOptions

from .tiny import FAST_SIZE

BUNDLED = [row for row in MODELS if row.hub_id is None]
FLASH = [row for row in BUNDLED if row.plan is not None]
DENSE = [row.name for row in BUNDLED if row.plan is None]


def auc_30(name: str, spec: str) -> float:
    """Relative-pose AUC@30 of three easy scenes of eight views."""
    model, case = manyview.load(name), Case("easy", 8)
    found, truth = [], []
    for number in range(3):
        scene = case.render(number, (FAST_SIZE, FAST_SIZE))
        with torch.no_grad():
            plan = Plan.parse(spec, model.config.depth)
            found.append(model(scene.images, plan, RunOptions(heads=("camera",))).cam_from_world[0].double())
        truth.append(scene.cam_from_world[0].double())
    errors = pair_errors(torch.stack(found), torch.stack(truth))
    return auc(torch.maximum(errors.rotation_deg, errors.translation_deg).flatten(), 30)


@pytest.mark.parametrize("row", BUNDLED, ids=lambda row: row.name)
def test_bundled_weights_are_free_and_say_what_they_are(row: NamedModel) -> None:
    model = manyview.load(row.name)
    assert row.images == f"longer side {model.config.image_size}, patches of {model.config.patch_size}"
    assert model.name == row.name and model.info is not None and model.info.commercial_use is True
    assert model.info.licence == "Apache-2.0"
    assert model.info.metadata["config"] == json.loads(json.dumps(model.config.to_json()))
    assert model.info.metadata["recipe"]["command"].startswith("manyview train")


@pytest.mark.parametrize("row", FLASH, ids=lambda row: row.name)
def test_siblings_run_under_the_plan_they_were_trained_for(row: NamedModel, tmp_path: Path) -> None:
    model = manyview.load(row.name)
    assert model.info is not None and model.info.plan == row.plan
    assert row.plan is not None and row.plan in row.methods
    scene = Case("easy", 4).render(0, (FAST_SIZE, FAST_SIZE))
    for number, picture in enumerate((scene.images[0] * 255).byte().permute(0, 2, 3, 1).numpy()):
        Image.fromarray(picture).save(tmp_path / f"{number}.png")
    result = manyview.reconstruct(tmp_path, model=model, image_size=FAST_SIZE)
    used, wanted = (Plan.parse(spec, model.config.depth) for spec in (result.settings["accel"], row.plan))
    assert used == wanted


@pytest.mark.parametrize("spec", ["flash:r=4", "flash:r=4,keyframes=0,causal=true"])
def test_training_for_descriptors_pays(spec: str) -> None:
    """In one pass over a set, and under a stream's causal mask."""
    trained = auc_30("manyview-flash", spec)
    assert trained > 60 and trained > auc_30("manyview-photos", spec) + 5


def test_files_are_small_and_as_large_as_their_rows_say() -> None:
    folder = Path(str(importlib.resources.files("manyview.models") / "bundled"))
    assert {path.name for path in folder.iterdir()} == {row.file for row in BUNDLED}
    for row in BUNDLED:
        size = (folder / str(row.file)).stat().st_size
        assert size <= 25_000_000 and row.size_bytes == pytest.approx(size, rel=0.01)


@pytest.mark.parametrize("name", DENSE)
def test_bundled_weights_match_views(name: str) -> None:
    dense, frame = auc_30(name, "dense"), auc_30(name, "frame")
    assert dense > 60 and frame < dense / 3
