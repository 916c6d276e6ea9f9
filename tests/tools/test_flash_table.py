"""Weights and streams side by side: a stream of one chunk scores as one pass, costs add up, files."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest
import torch
from tools.results import flash_table
from tools.results.stream_scores import Variant, compare_variants, run_variant

import manyview
from manyview.attention.plan import Plan
from manyview.errors import UsageError
from manyview.evaluate.protocols.procedural import Case
from manyview.evaluate.report.posed import posed_json
from manyview.evaluate.runner.image_sets import evaluate_posed
from manyview.models.vggt.model import VGGT
from manyview.reconstruction.run.options import ReconstructOptions
from tests.datasets.posed_fixtures import VIEWS, write_plain
from tests.train.tiny import MODEL

PLAN = "flash:r=2,keyframes=0"


@pytest.fixture(scope="module")
def model() -> VGGT:
    torch.manual_seed(0)
    return VGGT(MODEL).eval()


def test_a_stream_of_one_chunk_is_the_pass(model: VGGT) -> None:
    images = torch.rand(1, 4, 3, 24, 24)
    whole, stream = (run_variant(model, images, Variant("m", PLAN, chunk=chunk)) for chunk in (None, 4))
    torch.testing.assert_close(stream.found.cam_from_world, whole.found.cam_from_world)
    torch.testing.assert_close(stream.found.z_depth, whole.found.z_depth)
    assert stream.attention_flops == whole.attention_flops and stream.linear_flops == whole.linear_flops


def test_single_frames_cost_what_the_causal_plan_costs(model: VGGT) -> None:
    """Both count the same keys; their cameras differ, as a stream's camera head cannot see later frames."""
    images = torch.rand(1, 7, 3, 24, 24)
    causal = Variant("m", f"{PLAN},causal=true,keep_one_in=3")
    one_by_one = Variant("m", PLAN, chunk=1, keep_one_in=3)
    whole, stream = run_variant(model, images, causal), run_variant(model, images, one_by_one)
    torch.testing.assert_close(stream.found.z_depth, whole.found.z_depth, rtol=1e-3, atol=1e-4)
    assert stream.attention_flops == pytest.approx(whole.attention_flops)
    layout = whole.found.layout
    dense = Plan.dense(MODEL.depth).cost(layout, MODEL.dim).attention_flops
    assert 0 < stream.attention_flops < dense


def test_the_first_way_is_what_others_are_compared_with(model: VGGT) -> None:
    variants = [Variant("a", "dense"), Variant("b", "dense"), Variant("a", PLAN, chunk=2)]
    heard: list[tuple[int, int]] = []
    cases = [(Case("easy", 3), 2), (Case("easy", 3, "set"), 1)]
    sequence, loose = compare_variants(
        {"a": model, "b": model}, variants, cases, lambda done, total: heard.append((done, total))
    )
    assert heard[-1] == (8, 8)  # nothing streams on a set
    assert [row.variant for row in sequence.rows] == variants and [
        row.variant for row in loose.rows
    ] == variants[:2]
    first, same, stream = sequence.rows
    assert (
        first.scores["auc_30"] == same.scores["auc_30"] and first.scores["abs_rel"] == same.scores["abs_rel"]
    )
    assert first.attention_share == same.attention_share == first.time_share == 1
    assert 0 < stream.attention_share != 1
    assert json.loads(json.dumps(sequence.to_json()))["rows"][2]["way"]["chunk"] == 2


def test_what_cannot_be_compared_is_an_error(model: VGGT) -> None:
    with pytest.raises(UsageError, match="'x'"):
        compare_variants({"a": model}, [Variant("x", "dense")], [(Case("easy", 2), 1)])
    with pytest.raises(UsageError, match="variant"):
        compare_variants({"a": model}, [], [(Case("easy", 2), 1)])
    other = VGGT(dataclasses.replace(MODEL, image_size=48))
    with pytest.raises(UsageError, match="--image-size"):
        compare_variants({"a": model, "b": other}, [Variant("a", "dense")], [(Case("easy", 2), 1)])
    with pytest.raises(ValueError, match="not 0"):
        Variant("a", PLAN, chunk=0)


def test_the_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "flash"
    line = [str(out), "--dense", "manyview-small", "--flash", "manyview-small", "--levels", "easy"]
    assert flash_table.main([*line, "--views", "2", "--scenes", "1", "--image-size", "56"]) == 0
    found = json.loads((out / "results.json").read_text())
    (case,) = found["cases"]
    assert found["settings"]["image_size"] == 56
    # Dense, three reductions of two weights, the causal pass of one, and two streams of each.
    assert len(case["rows"]) == 1 + 3 + 3 + 1 + 4
    table, summary = (out / "table.md").read_text(), (out / "summary.md").read_text()
    assert table.count("| manyview-small (") == summary.count("| manyview-small (") == 12
    assert "easy 2: attention, time" in summary
    capsys.readouterr()


def test_photographs_score_as_the_evaluation_of_posed_sets_has_them(tmp_path: Path) -> None:
    write_plain(tmp_path / "kitchen")
    line = [str(tmp_path / "out"), "--dense", "manyview-small", "--flash", "manyview-small"]
    line += ["--photographs", str(tmp_path / "kitchen"), "--image-size", "56"]
    assert flash_table.main(line) == 0
    (one,) = json.loads((tmp_path / "out" / "results.json").read_text())["photographs"]
    options = ReconstructOptions(image_size=56)
    model, plans = manyview.load("manyview-small"), ("dense", "flash:r=2")
    posed = posed_json(evaluate_posed(model, [tmp_path / "kitchen"], plans, options=options))
    wanted = {row["name"]: row["numbers"]["auc_30"] for row in posed["sets"][0]["rows"]}
    for row in one["rows"]:
        if row["way"]["chunk"] is None and row["way"]["plan"] in plans:
            assert row["auc_30"] == pytest.approx(wanted[row["way"]["plan"]], abs=1e-3)
    assert one["views"] == VIEWS and sum(row["way"]["chunk"] is not None for row in one["rows"]) == 6
    assert "kitchen | mean |" in (tmp_path / "out" / "table.md").read_text()


def test_missing_weights_and_counts_are_errors(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert flash_table.main([str(tmp_path), "--flash", "absent-weights"]) == 2
    output = capsys.readouterr().err
    assert "'absent-weights'" in output and "--flash" in output
    assert flash_table.main([str(tmp_path), "--scenes", "1"]) == 2
    assert "--scenes" in capsys.readouterr().err


def test_rows_cover_passes_and_streams_of_both() -> None:
    rows = flash_table.variants()
    assert len(set(rows)) == len(rows) and rows[0].plan == "dense"
    for variant in rows:
        Plan.parse(variant.plan, 8)
    for name in ("dense", "flash"):
        own = [variant for variant in rows if variant.weights == name]
        assert {"flash:r=1", "flash:r=2", "flash:r=4"} < {v.plan for v in own if v.chunk is None}
        assert [v.chunk for v in own if v.chunk is not None] == [1, 10]
