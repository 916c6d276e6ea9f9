"""FlashVGGT's weights through the command line: what they were trained for is the default."""

from __future__ import annotations

import dataclasses

import torch

import manyview
from tests.models.tiny import TINY, tiny_vggt


def test_the_default_is_what_the_weights_were_trained_for(command, photos, tmp_path):
    weights = tmp_path / "flashvggt.pt"
    torch.save(tiny_vggt(config=dataclasses.replace(TINY, point_head=None)).state_dict(), weights)

    def run(name, *more):
        status, text, errors = command("reconstruct", photos, tmp_path / name, "--model", weights, *more)
        assert status == 0, errors
        return manyview.load_reconstruction(tmp_path / name), text

    result, text = run("default")
    assert result.settings["accel"] == "flash" and "note: flash, which these weights were trained for" in text
    result, text = run("auto", "--accel", "auto")
    assert result.settings["accel"] == "flash" and "auto picked flash" in text
    result, text = run("v2", "--accel", "flash:version=v2")
    assert result.settings["accel"] == "flash:version=v2" and "worse" not in text
    result, text = run("dense", "--accel", "dense")
    assert (
        result.settings["accel"] == "dense"
        and "note: these weights were trained for flash; with dense" in text
    )


def test_other_weights_stay_dense(command, photos, tmp_path):
    weights = tmp_path / "mine.pt"
    torch.save(tiny_vggt().state_dict(), weights)
    status, _, errors = command("reconstruct", photos, tmp_path / "out", "--model", weights)
    assert status == 0, errors
    assert manyview.load_reconstruction(tmp_path / "out").settings["accel"] == "dense"


def test_weights_with_a_learnt_compressor_run_with_it(command, photos, tmp_path):
    weights = tmp_path / "trained.pt"
    state = tiny_vggt(config=dataclasses.replace(TINY, point_head=None)).state_dict()
    for layer in range(TINY.depth):
        name = f"aggregator.global_blocks.{layer}.attn.spatial_compressor.compressor.weight"
        state[name] = torch.randn(TINY.dim, 1, 2, 2, generator=torch.Generator().manual_seed(layer))
    torch.save(state, weights)
    status, _, errors = command("reconstruct", photos, tmp_path / "out", "--model", weights)
    assert status == 0, errors
    result = manyview.load_reconstruction(tmp_path / "out")
    assert result.settings["accel"] == "flash:r=2,version=learnt"
    status, _, errors = command(
        "reconstruct", photos, tmp_path / "o2", "--model", weights, "--accel", "flash:version=learnt"
    )
    assert status != 0 and "reduces by 2, not by 3" in errors
