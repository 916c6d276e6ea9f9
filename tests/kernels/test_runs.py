"""The choice of kernels on its way from a user to the networks and into what a result says of itself."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

import manyview
from manyview.cli.main import run
from manyview.errors import UsageError
from manyview.kernels import choice
from manyview.models.vggt.model import VGGT
from manyview.reconstruction.run import whole
from manyview.reconstruction.run.engine import reconstruct
from manyview.reconstruction.run.options import ReconstructOptions
from manyview.reconstruction.run.prepare import prepare
from tests.models.tiny import tiny_vggt

from .test_models import SMALL

pytestmark = pytest.mark.photos(2, 42, 28)


@pytest.fixture
def seen(monkeypatch):
    """Kernels of each forward pass."""
    names = []
    run = whole.run_forward

    def told(model, images, *rest):
        hook = model.aggregator.register_forward_pre_hook(lambda _, given: names.append(given[2].kernels))
        try:
            return run(model, images, *rest)
        finally:
            hook.remove()

    monkeypatch.setattr(whole, "run_forward", told)
    return names


def test_a_reconstruction_runs_with_its_kernels_and_says_so(photos, device, seen):
    model = tiny_vggt(config=SMALL)
    options = ReconstructOptions(image_size=42, device=device.type)
    scenes = [
        reconstruct(photos, model, dataclasses.replace(options, kernels=name)) for name in ("plain", "triton")
    ]
    assert seen == ["plain", "triton"]
    assert "kernels" not in scenes[0].settings and scenes[1].settings["kernels"] == "triton"
    assert scenes[0].settings_hash != scenes[1].settings_hash
    np.testing.assert_allclose(scenes[0].z_depth, scenes[1].z_depth, rtol=1e-3, atol=1e-4)


def test_streams_take_the_choice(device, monkeypatch):
    passes = []
    run = VGGT.run_chunk

    def told(model, images, plan, options, *args, **kwargs):
        passes.append(options.kernels)
        return run(model, images, plan, options, *args, **kwargs)

    monkeypatch.setattr(VGGT, "run_chunk", told)
    images = [torch.zeros(3, 28, 28, dtype=torch.uint8)] * 2
    updates = manyview.stream(
        images, tiny_vggt(config=SMALL), chunk=1, kernels="triton", device=device.type, image_size=28
    )
    assert len(list(updates)) == 2 and passes == ["triton", "triton"]


def test_wrong_choices_are_told_before_pictures_are_read(photos, tmp_path, monkeypatch, capsys):
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    monkeypatch.setattr(choice.importlib.util, "find_spec", lambda name: object())
    with pytest.raises(UsageError, match="'fast'"):
        ReconstructOptions(kernels="fast")
    nowhere = tmp_path / "nowhere"
    with pytest.raises(UsageError, match="cpu"):
        prepare(nowhere, tiny_vggt(config=SMALL), ReconstructOptions(kernels="triton", device="cpu"))
    for command in ("reconstruct", "stream"):
        where = [command, str(photos), str(tmp_path / "out"), "--device", "cpu", "--kernels", "triton"]
        assert run(where) == 2
        assert "cpu" in capsys.readouterr().err
