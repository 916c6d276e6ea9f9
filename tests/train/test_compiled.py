"""Compiled blocks are the same model: names, results and gradients."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from manyview.errors import UsageError
from manyview.models.vggt.model import VGGT
from manyview.train import model_setup
from manyview.train.trainer import Trainer
from manyview.train.workers import Workers

from .tiny import MODEL, tiny_config


@pytest.mark.usefixtures("unchecked")
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor:UserWarning")  # the compiler reads it
def test_a_compiled_step_is_the_plain_step(monkeypatch: pytest.MonkeyPatch) -> None:
    """With the compiler's graphs run as they are, which needs no C++ compiler."""
    calls = []

    def compile_eagerly(model: VGGT) -> None:
        calls.append(model)
        model_setup.compile_blocks(model, backend="aot_eager")

    monkeypatch.setattr("manyview.train.trainer.compile_blocks", compile_eagerly)
    model = dataclasses.replace(MODEL, depth=1, taps=(0, 0, 0, 0))
    plain, fast = (Trainer(tiny_config(model=model, compile_blocks=on), Workers()) for on in (False, True))
    assert len(calls) == 1
    for _ in range(2):
        expected, found = plain.train_step(), fast.train_step()
        assert found == pytest.approx(expected, rel=1e-4)
    assert plain.state().tensors.keys() == fast.state().tensors.keys()


def test_without_a_compiler_a_compiled_run_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_compiler(*args: object, **options: object) -> None:
        raise RuntimeError("no compiler")

    monkeypatch.setattr(torch, "compile", no_compiler)
    with pytest.raises(UsageError, match="compile_blocks"):
        model_setup.compile_blocks(VGGT(MODEL))
