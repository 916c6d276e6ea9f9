"""What the runner prints and returns: passes, failures of every kind, skipped models, unusable folders."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from tools.conformance.__main__ import main
from tools.conformance.compare import compare_field
from tools.conformance.runner import run_case

from manyview.models.blocks import Block
from tools.conformance import UnusableFolder, read_cases

from .golden import Folder, random_input

POSITIONS = torch.tensor([[(0, 0), (1, 1), (1, 2), (2, 1)]])
TURN = {"tokens": random_input("t", 1, 2, 4, 8), "positions": POSITIONS}


@pytest.fixture
def folder(tmp_path) -> Folder:
    folder = Folder(tmp_path)
    folder.add("vggt_ops/turn", {"base": 100}, TURN, {"rotated": ""})
    folder.add(
        "vggt/block",
        {"dim": 16, "num_heads": 2, "qk_norm": True, "rope": True},
        {"x": random_input("x", 1, 4, 16), "positions": POSITIONS},
        {"attn": "", "y": "", "y_small": "x * 1e-4"},
        lambda: Block(16, 2, qk_norm=True),
    )
    return folder


def change(folder: Folder, number: int, **tensors: torch.Tensor | None) -> None:
    """Replace, add or (None) remove stored tensors of a case; "__" in a name stands for a dot."""
    path = folder.root / folder.entries[number]["file"]
    stored = load_file(path)
    for name, value in tensors.items():
        stored.pop(name.replace("__", "."), None)
        if value is not None:
            stored[name.replace("__", ".")] = value
    save_file(stored, path)


def run(root: Path, capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, list[str], str]:
    status = main([str(root), *arguments])
    captured = capsys.readouterr()
    return status, captured.out.splitlines(), captured.err


def test_lines_of_a_good_run(folder, capsys):
    status, lines, errors = run(folder.root, capsys)
    assert status == 0 and errors == "" and len(lines) == 3
    assert lines[0].split()[:4] == ["vggt_ops/turn", "PASS", "worst", "error"]
    assert lines[1].startswith("vggt/block     PASS  worst error ") and " x tolerance " in lines[1]
    assert lines[2] == "2 passed, 0 failed, 0 skipped"


def test_only_some_cases(folder, capsys):
    status, lines, _ = run(folder.root, capsys, "--only", "vggt/*")
    assert status == 0 and lines[-1] == "1 passed, 0 failed, 0 skipped"
    status, lines, errors = run(folder.root, capsys, "--only", "pi3/*")
    assert status == 2 and lines == [] and "no case matches pi3/*" in errors


@pytest.mark.parametrize(
    ("name", "shift", "words"),
    [("out__y", 1e-3, "1 of 3 outputs fail: y"), ("out__y_small", 1e-4, "1 of 3 outputs fail: y_small")],
)
def test_a_wrong_number_fails(folder, capsys, name, shift, words):
    stored = load_file(folder.root / folder.entries[1]["file"])[name.replace("__", ".")]
    wrong = stored.clone()
    wrong[0, 2, 3] += shift
    change(folder, 1, **{name: wrong})
    status, lines, _ = run(folder.root, capsys)
    assert status == 1 and lines[-1] == "1 passed, 1 failed, 0 skipped"
    assert lines[0].split()[1] == "PASS" and lines[1].split()[1] == "FAIL" and words in lines[1]
    assert name.removeprefix("out__") + ")" in lines[1]


def test_wrong_settings_fail(folder, capsys):
    folder.entries[0]["config"]["base"] = 99
    folder.entries[1]["config"]["norm_eps"] = 1e-6
    folder.write()
    status, lines, _ = run(folder.root, capsys)
    assert status == 1 and lines[-1] == "0 passed, 2 failed, 0 skipped"
    assert "y_small" in lines[1]


def test_an_output_that_is_not_produced_fails(folder, capsys):
    folder.entries[0]["outputs"]["extra"] = {"atol": 1.0, "rtol": 1.0}
    folder.write()
    change(folder, 0, out__extra=torch.zeros(2))
    status, lines, _ = run(folder.root, capsys)
    assert status == 1 and "FAIL" in lines[0] and "extra (not produced)" in lines[0]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"out__rotated": torch.zeros(1, 2, 4, 4)}, "shape [1, 2, 4, 8], expected [1, 2, 4, 4]"),
        ({"out__rotated": torch.full((1, 2, 4, 8), math.nan)}, "values are not finite"),
        ({"out__rotated": None}, "disagree about the outputs rotated"),
        ({"out__other": torch.zeros(1)}, "disagree about the outputs other"),
        ({"in__tokens": None}, "lacks the input tokens"),
        ({"in__tokens": torch.zeros(1, 2, 4, 6)}, "FAIL  ValueError: 2-D rotary positions need"),
    ],
)
def test_a_contradictory_case_fails_and_the_rest_goes_on(folder, capsys, changes, words):
    change(folder, 0, **changes)
    status, lines, _ = run(folder.root, capsys)
    assert status == 1 and "FAIL" in lines[0] and words in lines[0]
    assert lines[-1] == "1 passed, 1 failed, 0 skipped"


def test_weights_are_loaded_as_strictly_as_a_checkpoint(folder, capsys):
    path = folder.root / folder.entries[1]["inventory"]
    inventory = json.loads(path.read_text())["tensors"]
    del inventory["ls1.gamma"]
    inventory["mlp.fc3.weight"] = {"shape": [2, 2]}
    inventory["norm2.bias"] = {"shape": [15]}
    path.write_text(json.dumps(inventory))  # also: an inventory without the outer "tensors"
    _, lines, _ = run(folder.root, capsys, "--only", "vggt/*")
    assert (
        "1 missing (ls1.gamma); 1 unexpected (mlp.fc3.weight); 1 misshapen (norm2.bias expected" in lines[0]
    )


@pytest.mark.parametrize("what", ["file", "inventory"])
def test_missing_or_damaged_files_of_a_case(folder, capsys, what):
    path = folder.root / folder.entries[1][what]
    path.write_bytes(path.read_bytes()[:40])
    assert run(folder.root, capsys)[0] == 1
    path.unlink()
    status, lines, _ = run(folder.root, capsys)
    assert status == 1 and "cannot be read" in lines[1]


def test_models_that_are_not_implemented_are_skipped(folder, capsys):
    for group in ("new/b", "full/newer", "new/a"):
        folder.entries.append(folder.entries[0] | {"id": group, "file": "absent", "inventory": None})
    folder.write()
    status, lines, _ = run(folder.root, capsys)
    assert status == 0 and lines[-1] == "2 passed, 0 failed, 3 skipped"
    assert [line.split(None, 2)[1:] for line in lines[2:5]] == [
        ["SKIP", "new is not implemented"],
        ["SKIP", "newer is not implemented"],
        ["SKIP", "new is not implemented"],
    ]


@pytest.mark.parametrize("case_id", ["vggt_ops/unheard", "vggt/unheard", "full/vggt_unheard"])
def test_an_unknown_case_of_an_implemented_model_fails(folder, capsys, case_id):
    entry = folder.entries[1] | {"id": case_id, "inventory": "inventories/other.json"}
    (folder.root / "inventories/other.json").write_text(json.dumps({"what.weight": {"shape": [2]}}))
    folder.entries = [entry | {"inputs": {}}]
    folder.write()
    status, lines, _ = run(folder.root, capsys)
    assert status == 1 and "nothing here recognises this case" in lines[0]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, "holds no cases.json"),
        ("{", "is not readable JSON"),
        ("{}", "holds no list of cases"),
        ("[]", "holds no list of cases"),
        ('[{"id": "vggt/a"}]', "entry 0 lacks file, config, inputs, outputs"),
        ('["vggt/a"]', "entry 0 lacks id"),
    ],
)
def test_unusable_folders(tmp_path, capsys, content, words):
    if content is not None:
        (tmp_path / "cases.json").write_text(content)
    status, lines, errors = run(tmp_path, capsys)
    assert status == 2 and lines == [] and words in errors and errors.count("\n") == 1
    with pytest.raises(UnusableFolder):
        read_cases(tmp_path)


def test_a_folder_that_is_none(tmp_path, capsys):
    assert run(tmp_path / "nowhere", capsys)[0] == 2
    (tmp_path / "file").write_text("")
    assert run(tmp_path / "file", capsys)[0] == 2


def test_a_device_that_is_none(folder, capsys):
    status, _, errors = run(folder.root, capsys, "--device", "abacus")
    assert status == 2 and errors.startswith("error: device 'abacus' cannot be used")


def test_as_a_program(folder):
    command = [sys.executable, "-m", "tools.conformance", str(folder.root)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0 and done.stdout.endswith("2 passed, 0 failed, 0 skipped\n")


def test_running_leaves_the_precision_of_the_program_alone(folder, capsys):
    before = torch.get_float32_matmul_precision()
    try:
        torch.set_float32_matmul_precision("high")
        run(folder.root, capsys)
        assert torch.get_float32_matmul_precision() == "high"
    finally:
        torch.set_float32_matmul_precision(before)


def test_comparison_at_the_limit():
    spec = {"atol": 0.1, "rtol": 0.01}
    expected = torch.tensor([0.0, 100.0])
    good = compare_field("a", torch.tensor([0.0999, 101.05]), expected, spec)
    assert good.passed and good.ratio == pytest.approx(0.999) and good.tolerance == pytest.approx(0.1)
    bad = compare_field("a", torch.tensor([0.0, 101.2]), expected, spec)
    assert (
        not bad.passed and bad.error == pytest.approx(1.2, rel=1e-4) and bad.tolerance == pytest.approx(1.1)
    )


def test_comparison_without_any_tolerance():
    exact = {"atol": 0, "rtol": 0}
    numbers = torch.tensor([1, 2, 3], dtype=torch.uint8)
    assert compare_field("a", numbers, numbers, exact).passed
    result = compare_field("a", numbers + 1, numbers, exact)
    assert not result.passed and result.problem == "3 of 3 values differ" and result.ratio == math.inf
    floats = torch.tensor([0.0, 1.0])
    assert compare_field("a", floats, floats, exact).passed
    assert not compare_field("a", floats + 1e-6, floats, exact).passed
    flags = torch.tensor([True, False])
    assert (
        compare_field("a", flags, flags, exact).passed and not compare_field("a", ~flags, flags, exact).passed
    )


def test_a_case_without_outputs_cannot_pass(folder):
    entry = folder.entries[0] | {"outputs": {}}
    change(folder, 0, out__rotated=None)
    folder.entries[0] = entry
    folder.write()
    assert run_case(read_cases(folder.root)[0]).status == "FAIL"
