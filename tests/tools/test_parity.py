"""The command that compares every kernel with plain operations."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest
import torch
from tools.kernels import parity


def test_all_kernels_agree_and_figures_are_written(device, tmp_path, capsys):
    if device.type != "cpu":
        pytest.skip("on a card the command itself is run, at sizes that tell")
    out = tmp_path / "parity.json"
    assert parity.main(["--device", "cpu", "--out", str(out)]) == 0
    rows = json.loads(out.read_text())
    assert all(row["agrees"] and 0 < row["error"] <= row["allowed"] for row in rows)
    assert all(row["bytes"] <= row["plain_bytes"] for row in rows)
    assert len(capsys.readouterr().out.splitlines()) == len(rows) + 1


def test_a_wrong_kernel_is_found(triton):
    from tools.kernels.cases import CaseSize, kernel_cases

    size = CaseSize(frames=1, grid=(1, 2), special_tokens=1, heads=2, head_dim=8)
    case = kernel_cases()["layer norm"]
    honest = case.make

    def off(*args):
        trial = honest(*args)
        wrong = lambda *x: (trial.fused(*x)[0] * 1.001,)  # noqa: E731
        return dataclasses.replace(trial, fused=wrong)

    def nan(*args):
        trial = honest(*args)
        wrong = lambda *x: (trial.fused(*x)[0] * float("nan"),)  # noqa: E731
        return dataclasses.replace(trial, fused=wrong)

    makers = (honest, off, nan)
    found = [
        parity.compare(dataclasses.replace(case, make=make), size, torch.float32, triton, timed=False)
        for make in makers
    ]
    assert [one.agrees for one in found] == [True, False, False]


def test_a_case_that_raises_is_a_row(device, tmp_path, monkeypatch):
    from tools.kernels import cases

    few = dict(list(cases.kernel_cases().items())[:2])
    broken = dataclasses.replace(next(iter(few.values())), make=lambda *given: 1 / 0)
    monkeypatch.setattr(cases, "kernel_cases", lambda: {**few, broken.name: broken})
    out = tmp_path / "parity.json"
    assert parity.main(["--device", device.type, "--out", str(out)]) == 1
    rows = json.loads(out.read_text())
    assert [row["agrees"] for row in rows] == [False] * 3 + [True] * 3
    assert all("ZeroDivisionError" in row["failed"] for row in rows[:3]) and not rows[3]["failed"]


def test_tokens_far_apart_are_the_same_tokens(triton):
    from tools.kernels.cases import CaseSize, kernel_cases

    size = CaseSize(frames=1, grid=(1, 3), special_tokens=1, heads=2, head_dim=8)
    for case in kernel_cases().values():
        if case.strided:
            one = parity.compare(case, size, torch.float32, triton, timed=False, apart=1000)
            assert one.agrees and one.kernel.endswith("far apart")


def test_without_a_card_it_exits_with_2(monkeypatch, capsys):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert parity.main(["--device", "cuda"]) == 2
    assert "no CUDA card" in capsys.readouterr().out


def test_the_page_lists_every_kernel_with_the_bytes_that_are_counted(triton):
    from tools.kernels.cases import CaseSize, kernel_cases

    page = Path(__file__).resolve().parents[2] / "docs" / "kernels.md"
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in page.read_text().splitlines()]
    table = {row[0]: row for row in rows if len(row) == 6}
    size = CaseSize(frames=1, grid=(1, 2), special_tokens=1, heads=2, head_dim=16)
    for name, case in kernel_cases().items():
        trial = case.make(size, torch.float32, triton, torch.Generator(triton).manual_seed(0))
        wanted = [f"{trial.plain_units:g}", f"{trial.fused_units:g}", f"{case.roundings:g} eps"]
        assert table[name][3:] == wanted
