"""The figures as table, files and plot, and the command."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from manyview.bench.figures import BenchReport, Measurement, Refusal
from manyview.bench.files import NAMES, write_report
from manyview.bench.methods import Method
from manyview.bench.options import BenchOptions
from manyview.bench.plot import plot
from manyview.bench.table import table
from manyview.cli.bench import Bench
from manyview.errors import MissingExtraError, OutputError
from manyview.files.writing import check_results_folder

STAGES = ("encoder", "frame layers", "global layers", "camera head", "depth head")


def made_up(plan: str, frames: int) -> Measurement:
    seconds = {stage: 0.1 * frames * (index + 1) for index, stage in enumerate(STAGES)}
    total = sum(seconds.values())
    return Measurement(
        plan=plan,
        frames=frames,
        tokens=100 * frames,
        seconds=total,
        run_seconds=(total, 0.9 * total, 1.3 * total),
        stage_seconds=seconds,
        stage_flops={stage: 1e11 * frames for stage in STAGES},
        peak_bytes=frames * 50 * 2**20,
        expected_peak_bytes=frames * 55 * 2**20,
        pieces={"frames_per_chunk": 4, "mlp_tokens_per_chunk": None, "head_frames_per_chunk": 4},
    )


@pytest.fixture
def report() -> BenchReport:
    place = {
        "device_name": "A Machine", "threads": 1, "torch": "2", "precision": "fp32",
        "attention_kernel": "flash_attention", "commit": "0123456789abcdef+changes",
    }  # fmt: skip
    model = {"name": "m", "parameters": 2_500_000, "image_size": [40, 32]}
    cases = [made_up(plan, frames) for plan in ("dense", "frame") for frames in (2, 4)]
    return BenchReport(
        BenchOptions(runs=3), model, place, 1e12, cases, [Refusal("dense", 900, "does not fit")]
    )


def test_table_holds_the_figures(report):
    text = table(report)
    row = next(line for line in text.splitlines() if line.startswith("dense") and " 4 " in line).split()
    # method frames tokens seconds x-dense spread encoder frame global camera depth MiB TFLOP TFLOP/s floor x
    assert row[:6] == ["dense", "4", "400", "6", "1.00", "40%"]
    assert row[6:] == ["0.4", "0.8", "1.2", "1.6", "2", "200", "2", "0.333", "2", "3.0"]
    assert "2.5 M parameters, images 40x32" in text
    assert "commit 0123456789ab with changes" in text
    assert "dense, 900 frames: not run: does not fit" in text
    # 0.4 TFLOP in 1.2 s, beside a matrix product at 1 TFLOP/s.
    stage = next(line for line in text.splitlines() if line.startswith("global layers")).split()
    assert stage[2:] == ["1.2", "20%", "0.4", "0.333", "33%"]


def test_files_are_written_and_kept(report, tmp_path: Path):
    folder = tmp_path / "new" / "figures"
    paths = write_report(report, folder)
    assert sorted(p.name for p in folder.iterdir()) == sorted(NAMES)
    figures = json.loads(paths[0].read_text())
    assert figures["measurements"][1]["spread"] == pytest.approx(0.4)
    assert figures["measurements"][1]["floor_seconds"] == pytest.approx(2.0)
    assert figures["measurements"][1]["stage_flops_per_s"]["encoder"] == pytest.approx(1e12)
    assert figures["refusals"][0]["frames"] == 900
    assert paths[1].read_text() == table(report) + "\n"
    with pytest.raises(OutputError, match=r"bench\.json"):
        check_results_folder(folder, NAMES, overwrite=False)
    check_results_folder(folder, NAMES, overwrite=True)
    with pytest.raises(OutputError) as error:
        check_results_folder(paths[0], NAMES, overwrite=True)
    assert str(paths[0]) in str(error.value)


def test_plot_draws_every_stage(report, tmp_path: Path):
    pytest.importorskip("matplotlib", reason="the plot needs the extra 'plot'")
    plot(report, tmp_path / "plot.png")
    with Image.open(tmp_path / "plot.png") as image:
        pixels = np.asarray(image.convert("RGB")).reshape(-1, 3)
    assert len(pixels) > 500_000
    for colour in ((0x4C, 0x78, 0xA8), (0xE4, 0x57, 0x56), (0xF2, 0xB4, 0x47)):
        assert (np.abs(pixels.astype(int) - colour).max(1) < 4).sum() > 2000


def test_plot_of_nothing_is_still_an_image(report, tmp_path: Path):
    pytest.importorskip("matplotlib", reason="the plot needs the extra 'plot'")
    report.measurements.clear()
    plot(report, tmp_path / "plot.png")
    with Image.open(tmp_path / "plot.png") as image:
        assert image.width > 1000
    assert "not run" in table(report)


def command(**changes: object) -> Bench:
    values = {"model": "small-random", "frames": (1,), "size": (40, 32), "device": "cpu", "runs": 1}
    return Bench(**{**values, **changes})


def test_command_prints_and_writes(tmp_path: Path, capsys):
    pytest.importorskip("matplotlib", reason="the plot needs the extra 'plot'")
    assert command(out=tmp_path / "figures").run() == 0
    printed = capsys.readouterr().out
    assert "small-random" in printed and "x floor" in printed
    assert sorted(p.name for p in (tmp_path / "figures").iterdir()) == sorted(NAMES)
    with pytest.raises(OutputError, match="--overwrite"):
        command(out=tmp_path / "figures").run()


def test_what_was_measured_survives_an_interruption(tmp_path: Path, monkeypatch):
    from manyview.bench import measure

    real, calls = measure.measure_together, []

    def second_is_interrupted(*arguments: object) -> list[Method]:
        calls.append(arguments)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return real(*arguments)

    monkeypatch.setattr(measure, "measure_together", second_is_interrupted)
    with pytest.raises(KeyboardInterrupt):
        command(frames=(1, 2), out=tmp_path, plot=False).run()
    figures = json.loads((tmp_path / "bench.json").read_text())
    assert [case["frames"] for case in figures["measurements"]] == [1]


def test_a_missing_plot_library_is_an_error_before_anything_runs(tmp_path: Path, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    monkeypatch.setattr("manyview.bench.run_bench", lambda *_: pytest.fail("measured first"))
    with pytest.raises(MissingExtraError, match=r"manyview\[plot\]"):
        command(out=tmp_path / "figures").run()
    assert not (tmp_path / "figures").exists()
