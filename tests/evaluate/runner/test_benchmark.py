"""Plans side by side: same scenes, retention, files, and the command."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import torch

from manyview import errors
from manyview.errors import MissingExtraError, OutputError, UsageError
from manyview.evaluate.protocols.procedural import Case, chosen_cases
from manyview.evaluate.report.benchmark import FILES, benchmark_table, write_benchmark
from manyview.evaluate.report.pareto import pareto_front
from manyview.evaluate.runner.benchmark import compare_plans
from manyview.files.writing import check_results_folder
from manyview.models.part_configs import DenseHeadConfig, EncoderConfig
from manyview.models.vggt.config import CameraHeadConfig, VGGTConfig
from manyview.models.vggt.model import VGGT

HEAD = DenseHeadConfig(features=8, out_channels=(8, 8, 8, 8))


@pytest.fixture(scope="module")
def model() -> VGGT:
    torch.manual_seed(0)
    config = VGGTConfig(
        dim=32,
        depth=2,
        num_heads=2,
        patch_size=8,
        registers=1,
        image_size=36,
        taps=(0, 0, 1, 1),
        encoder=EncoderConfig(depth=1, num_heads=2, registers=1, native_grid=4),
        camera_head=CameraHeadConfig(depth=1, num_heads=2),
        depth_head=HEAD,
        point_head=None,
        track_head=None,
    )
    model = VGGT(config)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    return model.eval()


@pytest.fixture(scope="module")
def result(model):
    heard = []
    cases = chosen_cases(("easy", "rotation"), (3,))
    found = compare_plans(model, ("dense", "frame"), cases, 2, progress=lambda *at: heard.append(at))
    assert heard == [(n, 12) for n in range(1, 13)]
    return found


def test_rows_settings_and_retention(result, model):
    assert [str(one.case) for one in result.cases][-1] == "rotation, 3 views, sequence"
    settings = result.settings
    assert (settings["height"], settings["width"]) == (32, 32)
    assert settings["plans"] == {"dense": "dense", "frame": "frame"} and len(settings["weights_sha256"]) == 64
    for one in result.cases:
        dense, frame = one.rows
        assert frame.scores["attention_flops"] == pytest.approx(dense.scores["attention_flops"] / 3)
        assert dense.scores["seconds"] > 0
        assert all(share in (1.0, None) for share in dense.retention.values())
        for name, share in frame.retention.items():
            best = dense.scores[name]
            assert share == (pytest.approx(frame.scores[name] / best) if best else None)
    again = compare_plans(model, ("frame",), [Case("easy", 3)], 2).cases[0].rows[0]
    assert again.scores["ate"] == pytest.approx(result.cases[0].rows[1].scores["ate"], rel=1e-4)
    assert set(again.retention.values()) == {None}


def test_auto_is_chosen_for_each_case_and_cases_are_heard_of_as_they_end(model):
    heard = []
    cases = (Case("easy", 2), Case("easy", 31))
    found = compare_plans(model, ("auto",), cases, 1, on_case=heard.append)
    assert [row.plan for case in found.cases for row in case.rows] == [
        "auto (dense)",
        "auto (avggt:stride=1x2)",
    ]
    assert [len(part.cases) for part in heard] == [1, 2]


def test_files(result, tmp_path: Path):
    pytest.importorskip("matplotlib")
    check_results_folder(tmp_path / "new", FILES, overwrite=False)
    paths = write_benchmark(result, tmp_path / "new", "manyview evaluate synthetic")
    assert [path.name for path in paths] == ["results.json", "table.md", "pareto.png"]
    data = json.loads(paths[0].read_text())
    assert data["benchmark"] == "procedural-v1" and data["command"].startswith("manyview")
    assert (
        data["cases"][0]["case"]["options"]["path"] == "walk" and data["cases"][0]["case"]["listed"] is False
    )
    assert len(data["cases"]) == 3 and data["cases"][0]["rows"][1]["plan"] == "frame"
    text = paths[1].read_text()
    assert text.count("| `frame` |") == 3 and "nan" not in text and "## rotation, 3 views, sequence" in text
    assert paths[2].read_bytes()[:4] == b"\x89PNG"
    with pytest.raises(OutputError, match=r"results\.json"):
        check_results_folder(tmp_path / "new", FILES, overwrite=False)
    check_results_folder(tmp_path / "new", FILES, overwrite=True)
    with pytest.raises(OutputError, match=re.escape(paths[0].name)):
        check_results_folder(paths[0], FILES, overwrite=True)


def test_the_picture_needs_no_dense_row(model, tmp_path: Path):
    pytest.importorskip("matplotlib")
    found = compare_plans(model, ("frame",), [Case("easy", 2)], 1, size=(8, 16))
    write_benchmark(found, tmp_path, "x")
    assert (tmp_path / "pareto.png").stat().st_size > 1000 and "– / –" in benchmark_table(found)


def test_without_matplotlib_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "matplotlib", None)
    with pytest.raises(MissingExtraError, match="plot"):
        errors.require_plot()


def test_the_front_has_what_nothing_beats():
    points = [(1.0, 100.0), (0.5, 90.0), (0.6, 80.0), (0.5, 70.0), (0.1, 10.0), (2.0, 100.0)]
    assert pareto_front(points) == [(0.1, 10.0), (0.5, 90.0), (1.0, 100.0)]


def test_impossible_requests(model):
    case = Case("easy", 2)
    for arguments, named in (
        ((("dense",), [case], 0), "scene"),
        (((), [case], 1), "plan"),
        ((("nonsense",), [case], 1), "nonsense"),
        ((("dense",), [case], 1, (12, 16)), "12x16"),
    ):
        with pytest.raises(UsageError, match=named):
            compare_plans(model, *arguments)


def test_the_command_writes_the_folder_and_refuses_first(model, tmp_path: Path, monkeypatch, capsys):
    pytest.importorskip("matplotlib")
    from manyview.cli.evaluate import Evaluate
    from manyview.cli.options import ModelChoice

    monkeypatch.setattr(ModelChoice, "load", lambda self: model)
    Evaluate("synthetic", views=(2, 3), scenes=1, order=("set",), size=(16, 24), out=tmp_path / "o").run()
    assert "## easy, 3 views, set" in capsys.readouterr().out
    settings = json.loads((tmp_path / "o" / "results.json").read_text())["settings"]
    assert (settings["height"], settings["width"], settings["scenes"]) == (16, 24, 1)

    def refuse(self):
        raise AssertionError("loaded weights before asking")

    monkeypatch.setattr(ModelChoice, "load", refuse)
    for options, named in (
        ({"views": (2, 3)}, "--out"),
        ({"level": ("rotation",)}, "--out"),
        ({"out": tmp_path / "p", "json": tmp_path / "t.json"}, "--json"),
        ({"out": tmp_path / "p", "level": ("forward",), "order": ("set",)}, "sequence"),
        ({"scenes": 0}, "scene"),
    ):
        with pytest.raises(UsageError, match=named):
            Evaluate("synthetic", **options).run()


def test_precision_changes_the_pass_and_is_reported(model):
    plain, low = (
        compare_plans(model, ("frame",), [Case("easy", 2)], 1, precision=name) for name in (None, "bf16")
    )
    assert (plain.settings["environment"]["precision"], low.settings["environment"]["precision"]) == (
        "fp32",
        "bf16",
    )
    errors = [one.cases[0].rows[0].scores["abs_rel"] for one in (plain, low)]
    assert errors[0] != errors[1] == pytest.approx(errors[0], rel=0.05)
