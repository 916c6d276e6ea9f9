"""The published golden cases, all but the full-size model, which only the command runs."""

from __future__ import annotations

from pathlib import Path

import pytest
from tools.conformance.dispatch import Skipped, find_handler
from tools.conformance.folder import read_cases
from tools.conformance.runner import results


@pytest.mark.parametrize(
    "group", ["vggt_ops", "vggt", "pi3", "flash_v1", "flash_v2", "omega", "fastvggt", "preprocess", "da3"]
)
def test_every_case_of_an_implemented_model_passes(shared_reference, group):
    cases = [case for case in read_cases(shared_reference) if case.group == group]
    cases = [case for case in cases if not case.name.startswith("full_")]
    cases = [case for case in cases if not isinstance(find_handler(case), Skipped)]
    counts = {"vggt_ops": 7, "vggt": 17, "pi3": 17, "flash_v1": 17, "flash_v2": 16}
    assert len(cases) == (counts | {"omega": 15, "fastvggt": 4, "preprocess": 4, "da3": 40})[group]
    for case, result in zip(cases, results(cases), strict=True):
        assert result.status == "PASS", result.line()
        assert len(result.fields) == len(case.outputs)


def test_the_cases_kept_with_the_tests_pass():
    cases = read_cases(Path(__file__).parents[2] / "data" / "golden")
    for case, result in zip(cases, results(cases), strict=True):
        assert result.status == "PASS", result.line()
        assert len(result.fields) == len(case.outputs)


def test_the_full_size_model_is_not_skipped(shared_reference):
    run = {case.id for case in read_cases(shared_reference) if not isinstance(find_handler(case), Skipped)}
    assert {case_id for case_id in run if case_id.startswith("full/")} == {
        "full/vggt",
        "full/pi3",
        "full/pi3x",
        "full/flash_v1",
        "full/flash_v2",
        "full/stream_v1",
        "full/stream_v2",
        "full/omega",
        "full/omega_text",
    }
    assert len(run) == 151
