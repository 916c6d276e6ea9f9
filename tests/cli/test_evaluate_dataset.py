"""`manyview evaluate DATASET` and `compare` as a user calls them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.datasets.posed_fixtures import write_plain, write_sintel

from .conftest import Command


def test_a_dataset_into_files_and_on_again(command: Command, weights: Path, tmp_path: Path) -> None:
    for name in ("kitchen", "office", "stairs"):
        write_plain(tmp_path / "data" / name)
    out = tmp_path / "out"
    line = ("evaluate", "plain", "--root", tmp_path / "data", "--model", weights, "--views", 3, "--out", out)
    status, stdout, stderr = command(*line, "--accel", "avggt,frame", "--workers", 1)
    assert status == 0, stderr
    assert "| `dense` |" in stdout and "| `frame` |" in stdout and "plain.default.csv" in stdout
    data = json.loads((out / "plain.default.json").read_text())
    assert [row["plan"] for row in data["scenes"][0]["rows"]] == ["dense", "avggt", "frame"]
    assert data["settings"]["weights_sha256"] and data["settings"]["protocol"]["measures"]
    status, again, stderr = command(*line, "--accel", "avggt,frame", "--workers", 1)
    assert status == 0 and again == stdout, stderr  # seconds too: nothing ran
    status, _, stderr = command(*line[:-4], "--views", 2, "--out", out)
    assert status == 1 and "made under other settings (frames)" in stderr and "--overwrite" in stderr

    file = out / "plain.default.json"
    status, stdout, stderr = command(
        "evaluate", "compare", file, "--csv", tmp_path / "c.csv", "--markdown", tmp_path / "c.md"
    )
    assert status == 0, stderr
    assert "# avggt against dense" in stdout and "# frame against dense" in stdout
    table, written = stdout.rstrip().rsplit("\n", 1)
    assert (tmp_path / "c.md").read_text().strip() == table.strip() and "c.csv" in written
    lines = (tmp_path / "c.csv").read_text().splitlines()
    assert lines[0] == "plan_a,plan_b,figure,scene,a,b,difference" and lines[1].startswith('"dense","avggt"')
    pytest.importorskip("matplotlib")
    status, _, stderr = command("evaluate", "compare", file, "--plot", tmp_path / "d.png")
    assert status == 0 and {p.name for p in tmp_path.glob("d*.png")} == {"d.avggt.png", "d.frame.png"}, stderr
    status, stdout, stderr = command(
        "evaluate", "compare", file, file, "--plan", "dense", "--figures", "auc_30"
    )
    assert status == 0 and "dense (B) against dense (A)" in stdout and "not distinguishable" in stdout, stderr
    weights_of = f"weights {data['settings']['weights_sha256'][:12]}"
    assert stdout.startswith("- A: ") and stdout.count(weights_of) == 2 and "also differ" not in stdout


def test_protocols_are_listed(command: Command) -> None:
    status, stdout, _ = command("evaluate", "sintel", "--protocol", "list")
    assert status == 0 and "pi3-trajectory: " in stdout and "fastvggt-scannet50-1000: " in stdout


def test_misuse_is_reported_in_one_sentence(command: Command, weights: Path, tmp_path: Path) -> None:
    write_sintel(tmp_path / "final" / "alley_2")
    (tmp_path / "list.json").write_text("[1]")
    for line, sentence in (
        (("sintel", "--model", weights), "--root DIR; expected DIR/training/final/alley_2"),
        (("sintel", "--root", tmp_path, "--protocol", "best"), "no protocol 'best'"),
        (("sintel", "--root", tmp_path, "--protocol", "pi3-pose"), "is not for sintel"),
        (("sintel", "--root", tmp_path, "--views", 0), "views must be at least 1"),
        (("sintel", "--root", tmp_path, "--frames", tmp_path / "list.json"), "list.json"),
        (
            ("sintel", "--root", tmp_path, "--model", weights, "--protocol", "pi3-trajectory"),
            "13 of 14 scenes",
        ),
        (("sintel", "--root", tmp_path / "no", "--model", weights), "is no folder"),
        (("compare",), "one or two results"),
        (("compare", tmp_path / "list.json"), "list.json"),
    ):
        status, _, stderr = command("evaluate", *line)
        assert status == 2 and sentence in stderr and stderr.strip().count("\n") <= 1, (line, stderr)


def test_streams_beside_dense(command: Command, weights: Path, tmp_path: Path) -> None:
    write_plain(tmp_path / "data" / "kitchen")
    line = ("evaluate", "plain", "--root", tmp_path / "data", "--model", weights, "--workers", 1)
    status, stdout, stderr = command(*line, "--stream", "--accel", "flash:r=2", "--chunk", 1, 3)
    assert status == 0, stderr
    for name in ("dense", "flash:r=2, chunks of 1", "flash:r=2, chunks of 3"):
        assert f"| `{name}` |" in stdout
    for wrong, named in (
        (("--keep-one-in", 2), "--keep-one-in"),
        (("--stream", "--accel", "avggt"), "avggt"),
    ):
        status, _, stderr = command(*line, *wrong)
        assert status == 2 and named in stderr and stderr.strip().count("\n") <= 1, stderr
