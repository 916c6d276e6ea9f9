"""What a run on a card does unless a caller says otherwise; settings tell it."""

from __future__ import annotations

import pytest
import torch

from manyview.errors import UsageError
from manyview.reconstruction.plan import defaults
from manyview.reconstruction.plan.defaults import default_run_options
from manyview.reconstruction.run.options import ReconstructOptions
from manyview.reconstruction.run.prepare import prepare
from tests.models.tiny import tiny_vggt

CUDA, CPU = torch.device("cuda", 0), torch.device("cpu")


@pytest.fixture
def card(monkeypatch):
    """A card that multiplies bf16, with Triton."""
    monkeypatch.setattr(defaults, "multiplies_bf16", lambda device: True)
    monkeypatch.setattr(defaults, "pick_kernels", lambda kernels, device: "norms")
    return monkeypatch


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_heads_of_a_card_run_in_bf16_with_channels_last(card, dtype):
    found = default_run_options(CUDA, dtype)
    assert (found.head_dtype, found.channels_last, found.kernels) == (torch.bfloat16, True, "norms")
    wide = default_run_options(CUDA, dtype, head_precision="fp32")
    assert (wide.head_dtype, wide.channels_last) == (None, None)
    half = default_run_options(CUDA, dtype, head_precision="fp16")
    assert (half.head_dtype, half.channels_last) == (torch.float16, True)


@pytest.mark.parametrize("dtype", [None, torch.float32])
def test_fp32_stays_fp32(card, dtype):
    found = default_run_options(CUDA, dtype)
    assert (found.head_dtype, found.channels_last) == (None, None)


def test_a_card_without_bf16_keeps_the_weights_precision(card):
    card.setattr(defaults, "multiplies_bf16", lambda device: False)
    assert default_run_options(CUDA, torch.float16).head_dtype is None


def test_nothing_changes_on_a_cpu():
    found = default_run_options(CPU, torch.bfloat16)
    assert (found.head_dtype, found.channels_last, found.kernels) == (None, None, "plain")
    with pytest.raises(UsageError, match="'int8'"):
        default_run_options(CPU, None, head_precision="int8")


def test_settings_and_expected_memory_follow_what_was_picked(photos):
    model = tiny_vggt()
    plain = prepare(photos, model, ReconstructOptions(precision="bf16"))
    assert not {"kernels", "head_precision"} & plain.settings.keys()
    ready = prepare(photos, model, ReconstructOptions(precision="bf16", head_precision="bf16"))
    assert ready.settings == plain.settings | {"head_precision": "bf16"}
    assert ready.chosen.options.head_dtype == torch.bfloat16
    assert ready.chosen.peak_bytes >= plain.chosen.peak_bytes
    with pytest.raises(UsageError, match="int8"):
        ReconstructOptions(head_precision="int8")
