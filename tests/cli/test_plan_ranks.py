"""`manyview plan --ranks`: rows without an input, those of an input, and what cannot be."""

from __future__ import annotations

from pathlib import Path

import pytest

from .conftest import Command


def rows(text: str) -> list[list[str]]:
    """Cells of the table's rows."""
    lines = text.splitlines()
    start = next(i for i, line in enumerate(lines) if line.startswith("frames ")) + 1
    return [line.split() for line in lines[start:] if line[:1].isdigit()]


def test_rows_without_an_input(command: Command, weights: Path):
    line = ("--model", weights, "--ranks", 1, 2, 8, "--frames", 100, 100_000, "--on", "h100")
    status, text, error = command("plan", *line, "--accel", "avggt:early=1,stride=2x2")
    assert status == 0, error
    found = rows(text)
    assert [row[:3] for row in found] == [
        [frames, ranks, each]
        for frames, of in (("100", ("100", "50", "13")), ("100,000", ("100,000", "50,000", "12,500")))
        for ranks, each in zip("128", of, strict=True)
    ]
    assert "NVIDIA H100" in text and "nvlink4 (estimated" in text and "56x42" in text
    status, slow, _ = command("plan", *line, "--link", "ethernet-10", "--memory-gib", 0.25)
    assert status == 0 and "ethernet-10" in slow and "no" in rows(slow)[-1] and "256 MiB each" in slow
    assert "ranks on they wait longer for one another than they compute" in slow


def test_rows_of_an_input(command: Command, photos: Path, weights: Path):
    line = ("plan", photos, "--model", weights)
    status, text, error = command(*line, "--ranks", 1, 3)
    assert status == 0, error
    assert [row[:3] for row in rows(text)] == [["4", "1", "4"], ["4", "3", "2"]] and "CPU" in text
    status, text, _ = command(*line, "--ranks", 2, "--frames", 9, "--size", 28, 42, "--max-frames", 2)
    assert status == 0 and rows(text)[0][:3] == ["9", "2", "5"] and "28x42" in text


def test_a_plan_that_is_refused_has_a_row(command: Command, weights: Path):
    line = ("--model", weights, "--ranks", 1, 2, "--frames", 20, "--on", "NVIDIA H200")
    status, text, _ = command("plan", *line, "--accel", "fastvggt")
    assert status == 0 and "refused" in rows(text)[1] and "cannot run over several ranks" in text


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (("--frames", 100), "--ranks"),
        (("--ranks", 0, "--frames", 5), "--ranks"),
        (("--ranks", 10**9, "--frames", 5), "--ranks"),
        (("--ranks", 2), "--frames"),
        (("--ranks", 2, "--frames", 0), "--frames"),
        (("--ranks", 2, "--frames", 5, "--size", 30, 28), "multiples"),
        (("--ranks", 2, "--frames", 5, "--on", "H1000"), "NVIDIA H100"),
        (("--ranks", 2, "--frames", 5, "--link", "string"), "nvlink4"),
        (("--ranks", 2, "--frames", 5, "--memory-gib", 80), "--on"),
        (("--ranks", 2, "--frames", 5, "--accel", "auto"), "auto"),
    ],
)
def test_what_cannot_be(command: Command, weights: Path, wrong: tuple[object, ...], said: str):
    status, _, error = command("plan", "--model", weights, *wrong)
    assert status == 2 and said in error and "Traceback" not in error
