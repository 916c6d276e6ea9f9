"""The program for a card: cases that end alone, results that are safe, and small parts of it on the CPU."""

from __future__ import annotations

import dataclasses
import json
import os
import sys
import tarfile
import time
import zipfile
from collections.abc import Callable

import pytest
import torch
from tools.gpu_check import bare
from tools.gpu_check.__main__ import main
from tools.gpu_check.isolated import Case, Isolated
from tools.gpu_check.measure import line, row
from tools.gpu_check.parity import _error
from tools.gpu_check.profile import TINY, attention, calibrated, norms, products, transfers
from tools.gpu_check.results import Results
from tools.gpu_check.table import table
from tools.gpu_check.train import bring_weights, wide_recipe

from manyview.models.families import empty_network
from manyview.reconstruction.plan.device_model import DeviceModel

CPU = torch.device("cpu")


def fine(tell, number):
    tell({"number": number})
    sys.stdout.write("said in the log")


def breaks(tell):
    tell({"before": 1})
    raise ValueError("a bug\nand where it is")


def dies(tell):
    tell({"before": 2})
    os.kill(os.getpid(), 9)


def hangs(tell):
    tell({"before": 3})
    time.sleep(600)


def test_a_crash_a_hang_and_an_error_end_a_case_alone_and_every_figure_is_safe(tmp_path, monkeypatch):
    results = Results(tmp_path, "parity", {"device": "cpu"})
    seen = []

    def show(results: Results) -> str:
        seen.append(json.loads((tmp_path / "parity.json").read_text())["cases"])
        return "a table"

    monkeypatch.setattr("tools.gpu_check.isolated._PRELOAD", [__name__])
    isolated = Isolated(results, time.monotonic() + 60, show)
    isolated.run([Case("fine", fine, (7,)), Case("breaks", breaks), Case("dies", dies)])
    isolated.run([Case("hangs", hangs, seconds=2)])
    Isolated(results, time.monotonic() - 1).run([Case("late", fine, (8,))])
    found = json.loads((tmp_path / "parity.json").read_text())
    status = {name: case["status"] for name, case in found["cases"].items()}
    assert status["fine"] == "ok" and found["cases"]["fine"]["number"] == 7
    assert status["breaks"] == "failed: ValueError: a bug" and found["cases"]["breaks"]["before"] == 1
    assert "-9" in status["dies"] and found["cases"]["dies"]["before"] == 2
    assert status["hangs"].startswith("stopped") and found["cases"]["hangs"]["before"] == 3
    assert status["late"].startswith("left out")
    assert any(step.get("fine", {}).get("status") == "begun" for step in seen)  # before it had ended
    assert len(list(tmp_path.iterdir())) == 2
    with tarfile.open(tmp_path / "parity.tar.gz") as archive:
        assert b"said in the log" in archive.extractfile("parity/fine.log").read()


@pytest.mark.parametrize("kind", [transfers, products, norms, attention])
def test_every_rate_is_measured(kind, monkeypatch):
    def once(device: torch.device, run: Callable[[], object]) -> float:
        run()
        return 1.0

    monkeypatch.setattr("tools.gpu_check.measure.median_seconds", once)
    with torch.inference_mode():
        found = list(kind(CPU, TINY))
    assert found and all("error" not in one and one["seconds"] > 0 for one in found)


def test_measured_rates_become_a_device_of_the_list():
    found = [
        {"name": "copy", "seconds": 1.0, "bytes_per_s": 4e12},
        {"name": "1,000 small kernels", "seconds": 0.005},
        {"name": "bf16 qkv, 8 tokens", "seconds": 1.0, "flops_per_s": 6e14},
        {"name": "fp8 qkv", "error": "none"},
        {"name": "cuDNN: dense", "seconds": 1.0, "flops_per_s": 5e14},
    ]  # fmt: skip
    card = {"name": "NVIDIA H200 NVL", "capability": [9, 0], "multiprocessors": 132}
    one = DeviceModel.from_json(calibrated({"products": {"rows": found, "card": card}}))
    assert one.measured and one.name == card["name"] and one.bytes_per_s == 4e12 and one.dispatch_s == 5e-6
    assert one.products["bf16"] == 6e14 and one.attention["bf16"] == 5e14 and one.products["fp8"] > 6e14
    assert calibrated({"products": {"rows": found}}) is None


def test_an_error_is_a_rows_figure():
    def fails() -> None:
        raise RuntimeError("no kernel\nat all")

    found = row(CPU, "a product", fails, flops=1.0)
    assert found["error"] == "RuntimeError: no kernel" and "no kernel" in line(found)
    assert row(CPU, "a copy", lambda: None, moved=8.0)["bytes_per_s"] > 0


def test_an_error_that_is_not_a_number_is_off():
    assert not _error(torch.tensor([float("nan")]), torch.ones(1)) <= 1


def test_measured_and_extrapolated_seconds_stand_in_one_table(tmp_path):
    def case(method: str, frames: int, seconds: float) -> dict[str, object]:
        return {
            "method": method, "frames": frames, "seconds": seconds, "floor_seconds": 1.0,
            "fused_traffic_seconds": None, "peak_bytes": 2e9, "run_seconds": [seconds], "twin": False,
            "plan": method.partition(" ")[0], "kernels": "norms", "linears": "plain",
        }  # fmt: skip

    common = {
        "model": {"name": "vggt-1b-random", "image_size": [518, 392]}, "memory_bytes_per_frame": {},
        "environment": {"device_name": "A Card"},
    }  # fmt: skip
    guess = {"method": "dense [norms]", "frames": 1000, "seconds": 200.0, "from_frames": 300}
    results = Results(tmp_path, "table", {})
    fast = {**common, "measurements": [case("spark3r [norms]", 1000, 5.0)], "estimates": []}
    slow = {**common, "measurements": [case("dense [norms]", 300, 20.0)], "estimates": [guess]}
    results.cases = {"fast": {"status": "ok", "report": fast}, "slow": {"status": "ok", "report": slow}}
    text = table(results)
    assert "~0.025" in text and "1000 frames: 200 s, extrapolated" in text and "A Card" in text
    assert any("met" in line and "spark3r" in line for line in text.splitlines())


def test_the_wider_recipe_is_a_run_that_comes_back(tmp_path):
    recipe = wide_recipe()
    parameters = sum(p.numel() for p in empty_network(recipe.model).parameters())
    assert recipe.init is None and recipe.model.dim == 256 and 2 * parameters < 7 * 15_000_000
    assert sum(stage.share for stage in recipe.stages) == pytest.approx(1)


def test_weights_come_in_pieces_that_join(tmp_path, monkeypatch):
    from tools.gpu_check import train

    def export(folder, path):
        path.write_bytes(bytes(range(250)))

    monkeypatch.setattr("manyview.train.weights.export_weights", export)
    monkeypatch.setattr(train, "_PIECE_BYTES", 100)
    found = bring_weights(tmp_path, tmp_path)
    joined = b"".join(
        (tmp_path / f"weights.safetensors.{number}").read_bytes() for number in range(found["pieces"])
    )
    assert found["pieces"] == 3 and joined == bytes(range(250))


def test_packages_that_are_missing_come_from_wheels(tmp_path, monkeypatch):
    monkeypatch.setattr(bare, "PACKAGES", ("rare_package", "torch"))
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setenv("PYTHONPATH", "")
    assert bare.find_packages(tmp_path) == ["rare_package"]
    with zipfile.ZipFile(tmp_path / "rare_package-1.0-py3-none-any.whl", "w") as wheel:
        wheel.writestr("rare_package/__init__.py", "VALUE = 3\n")
    assert bare.find_packages(tmp_path) == []
    import rare_package

    assert rare_package.VALUE == 3 and "manyview-wheels-" in os.environ["PYTHONPATH"]


def test_without_a_card_or_a_package_it_exits_with_2(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setenv("PYTHONPATH", "")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert main(["table", str(tmp_path / "out")]) == 2 and "no CUDA device" in capsys.readouterr().err
    monkeypatch.setattr(bare, "PACKAGES", ("another_package",))
    assert main(["table", str(tmp_path / "out")]) == 2 and "another_package" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_every_wheel_has_a_pinned_version():
    pinned = (bare.ROOT / "constraints.txt").read_text("utf-8")
    assert all(f"\n{name}==" in pinned for name in bare.PACKAGES)
    assert dataclasses.is_dataclass(TINY)
