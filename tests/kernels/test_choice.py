"""Which kernels run, and what cannot be asked for."""

from __future__ import annotations

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from manyview.errors import UsageError
from manyview.kernels import check_kernels, choice, fused, launch_device, pick_kernels, trial

CPU = torch.device("cpu")


def test_plain_kernels_fuse_nothing():
    x = torch.zeros(2)
    assert not fused("plain", x)
    with launch_device("plain", CPU):
        assert not fused("plain", x)


def test_unknown_names_are_refused():
    with pytest.raises(ValueError, match="'fast'"):
        check_kernels("fast", CPU)


def test_triton_is_refused_on_a_cpu_that_does_not_interpret(monkeypatch):
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    monkeypatch.setattr(choice.importlib.util, "find_spec", lambda name: object())
    with pytest.raises(UsageError, match="cpu"):
        launch_device("triton", CPU)
    assert not fused("triton", torch.zeros(2))


def test_a_missing_triton_names_the_extra(monkeypatch):
    monkeypatch.setattr(choice.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UsageError, match=r"manyview\[kernels\]"):
        check_kernels("triton", CPU)


def test_gradients_take_the_plain_operations(monkeypatch):
    monkeypatch.setenv("TRITON_INTERPRET", "1")
    monkeypatch.setattr(choice.importlib.util, "find_spec", lambda name: object())
    x = torch.zeros(2)
    with launch_device("triton", CPU):
        assert fused("triton", x)
        assert not fused("triton", x.requires_grad_())
        with torch.no_grad():
            assert fused("triton", x)
    assert not fused("triton", torch.zeros(2, dtype=torch.float64))


def test_norms_leave_merging_plain(monkeypatch):
    monkeypatch.setenv("TRITON_INTERPRET", "1")
    monkeypatch.setattr(choice.importlib.util, "find_spec", lambda name: object())
    x = torch.zeros(2)
    check_kernels("norms", CPU)
    assert fused("norms", x) and not fused("norms", x, part="merging")
    assert fused("triton", x) and fused("triton", x, part="merging")


def test_tensors_without_memory_go_the_way_of_real_ones(monkeypatch):
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    assert fused("norms", torch.zeros(2, device="meta"))
    with FakeTensorMode():
        assert fused("norms", torch.zeros(2, device="cuda:0"))
        assert not fused("norms", torch.zeros(2, device="cpu"))


def test_the_tensors_cuda_device_is_current_for_triton(monkeypatch):
    """Triton launches on the current device; without one tensors of CUDA are fake."""
    monkeypatch.setattr(choice.importlib.util, "find_spec", lambda name: object())
    device = torch.device("cuda", 1)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert not isinstance(launch_device("triton", device), torch.cuda.device)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(choice, "compile_problem", lambda device: None)
    made = launch_device("triton", device)
    assert isinstance(made, torch.cuda.device) and made.idx == 1
    assert not isinstance(launch_device("plain", device), torch.cuda.device)


@pytest.fixture
def fresh(monkeypatch):
    """A machine with CUDA and Triton, about which nothing is known yet."""
    choice._auto_kernels.cache_clear()
    monkeypatch.setattr(choice.importlib.util, "find_spec", lambda name: object())
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(choice, "compile_problem", lambda device: None)
    yield monkeypatch
    choice._auto_kernels.cache_clear()


def test_auto_is_norms_on_cuda_and_plain_elsewhere(fresh):
    assert pick_kernels("auto", torch.device("cuda", 0)) == "norms"
    assert pick_kernels("auto", CPU) == pick_kernels("auto", torch.device("mps")) == "plain"
    assert pick_kernels("triton", torch.device("cuda", 0)) == "triton"
    assert pick_kernels("plain", torch.device("cuda", 0)) == "plain"
    with pytest.raises(ValueError, match="'fast'"):
        pick_kernels("fast", CPU)


@pytest.mark.parametrize("lacking", ["Triton", "a compiler"])
def test_without_triton_or_a_compiler_auto_is_plain_and_says_so_once(fresh, caplog, lacking):
    if lacking == "Triton":
        fresh.setattr(choice.importlib.util, "find_spec", lambda name: None)
    else:
        fresh.setattr(choice, "compile_problem", lambda device: "Failed to find C compiler")
    device = torch.device("cuda", 0)
    with caplog.at_level("WARNING", "manyview"):
        assert pick_kernels("auto", device) == pick_kernels("auto", device) == "plain"
    assert len(caplog.records) == 1
    with pytest.raises(UsageError, match="kernels"):
        pick_kernels("norms", device)


def test_a_compiler_that_fails_is_told_in_one_line(monkeypatch):
    """The trial itself, on a machine without a card: whatever Triton or the driver raises is the reason."""
    if torch.cuda.is_available():
        pytest.skip("there is a CUDA device")
    pytest.importorskip("triton")
    problem = trial.compile_problem(torch.device("cuda", 0))
    assert problem and "\n" not in problem
