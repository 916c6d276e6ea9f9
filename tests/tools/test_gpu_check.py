"""The parts of the check on a device: their output, their status and their time."""

from __future__ import annotations

import tarfile

import pytest
import torch
from tools.gpu_check import Checks

from tools import gpu_check


def test_output_is_kept_and_a_failure_noted(tmp_path, capsys):
    checks = Checks(tmp_path, "cpu", 60)
    checks.run("fine", 20, "-c", "print('said')")
    assert not checks.failed and "said" in (tmp_path / "fine.txt").read_text()
    checks.run("broken", 20, "-c", "raise SystemExit(3)")
    assert checks.failed and "status 3" in (tmp_path / "broken.txt").read_text()
    assert "said" in capsys.readouterr().out


@pytest.mark.parametrize("name, failed", [("pytest", False), ("kernels", True)])
def test_no_chosen_test_is_a_failure_but_of_gpu_tests(tmp_path, name, failed):
    checks = Checks(tmp_path, "cpu", 60)
    checks.run(name, 20, "-c", "raise SystemExit(5)")
    assert checks.failed is failed


def test_a_part_without_time_is_left_out(tmp_path):
    checks = Checks(tmp_path, "cpu", 10)
    checks.run("late", 20, "-c", "raise SystemExit(0)")
    assert checks.failed and "left out" in (tmp_path / "late.txt").read_text()


def test_the_command_packs_what_was_written(tmp_path, monkeypatch):
    def check(out, device, *_):
        out.mkdir()
        (out / "parity.txt").write_text(device)
        return False

    monkeypatch.setattr(gpu_check, "check", check)
    packed = tmp_path / "all.tar.gz"
    arguments = [str(tmp_path / "out"), "--device", "cpu", "--tiny", "--archive", str(packed)]
    assert gpu_check.main(arguments) == 1
    with tarfile.open(packed) as archive:
        assert "out/parity.txt" in archive.getnames()
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert gpu_check.main([str(tmp_path / "other")]) == 2 and not (tmp_path / "other").exists()
