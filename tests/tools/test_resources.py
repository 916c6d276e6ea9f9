"""Kernels compile for a card that is not there, and keep their numbers in registers."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from manyview.errors import UsageError

pytest.importorskip("triton")


@pytest.fixture(scope="module")
def compiled(tmp_path_factory):
    """All kernels for an H100, from a process that does not interpret."""
    out = tmp_path_factory.mktemp("compiled") / "resources.json"
    usual = {key: value for key, value in os.environ.items() if key != "TRITON_INTERPRET"}
    command = [sys.executable, "-m", "tools.kernels.resources", "--out", str(out)]
    done = subprocess.run(command, env=usual, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return json.loads(out.read_text(encoding="utf-8"))


def test_every_kernel_compiles_in_both_precisions(compiled):
    from tools.kernels.cases import kernel_cases

    assert {(one["kernel"], one["dtype"]) for one in compiled} == {
        (name, dtype) for name in kernel_cases() for dtype in ("bfloat16", "float32")
    }


def test_nothing_spills_in_half_precision(compiled):
    assert [one for one in compiled if one["dtype"] == "bfloat16" and one["spilled_bytes"]] == []


def test_multiprocessors_hold_several_programs(compiled):
    assert all(one["resident_warps"] >= 2 * one["warps"] for one in compiled if one["dtype"] == "bfloat16")


def test_products_use_the_matrix_units(compiled):
    functions = ("join_most_similar", "slot_means")
    products = [one for one in compiled if one["function"] in functions and one["dtype"] == "bfloat16"]
    assert products and all(one["tensor_core_calls"] > 0 for one in products)


def test_the_interpreter_is_refused(monkeypatch):
    from tools.kernels.resources import compile_all

    monkeypatch.setenv("TRITON_INTERPRET", "1")
    with pytest.raises(UsageError, match="TRITON_INTERPRET"):
        next(compile_all())
