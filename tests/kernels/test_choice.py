"""Who decides which kernels run, and what cannot be chosen."""

from __future__ import annotations

import pytest
import torch

from manyview.errors import UsageError
from manyview.kernels import choice, fused, use_kernels

CPU = torch.device("cpu")


def test_plain_is_the_default_and_comes_back():
    x = torch.zeros(2)
    assert not fused(x)
    with use_kernels("plain", CPU):
        assert not fused(x)


def test_unknown_names_are_refused():
    with pytest.raises(ValueError, match="choose from plain, triton"), use_kernels("fast", CPU):
        pass


def test_triton_is_refused_on_a_cpu_that_does_not_interpret(monkeypatch):
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    monkeypatch.setattr(choice.importlib.util, "find_spec", lambda name: object())
    with pytest.raises(UsageError, match="not on cpu"), use_kernels("triton", CPU):
        pass


def test_a_missing_triton_names_the_extra(monkeypatch):
    monkeypatch.setattr(choice.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UsageError, match=r"manyview\[kernels\]"), use_kernels("triton", CPU):
        pass


def test_gradients_take_the_plain_operations(monkeypatch):
    monkeypatch.setenv("TRITON_INTERPRET", "1")
    monkeypatch.setattr(choice.importlib.util, "find_spec", lambda name: object())
    x = torch.zeros(2)
    with use_kernels("triton", CPU):
        assert fused(x)
        assert not fused(x.requires_grad_())
        with torch.no_grad():
            assert fused(x)
    assert not fused(torch.zeros(2))
