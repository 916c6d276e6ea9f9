"""Averages as papers take them, and two results scene by scene."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from manyview.errors import UsageError
from manyview.evaluate.metrics.pose import auc, pair_errors
from manyview.evaluate.protocols.averages import averaged
from manyview.evaluate.protocols.measures import RelativePose
from manyview.evaluate.report.comparison import (
    bootstrap_interval,
    compare_results,
    comparison_csv,
    comparison_table,
    draw_differences,
    what_differs,
)
from manyview.evaluate.runner.records import Evaluation, PlanRow, SceneRows
from tests.evaluate.protocols.scene_pairs import noisy, similar, truth


def test_pooled_auc_is_that_of_all_pairs_together() -> None:
    pairs = [noisy(similar(truth(views)), size) for views, size in ((3, 0.02), (6, 0.3), (4, 0.1))]
    measure = RelativePose((3, 5, 15, 30))
    scenes = [("", measure.figures(pair)) for pair in pairs]
    errors = []
    for pair in pairs:
        found = pair_errors(torch.from_numpy(pair.found_cameras), torch.from_numpy(pair.true_cameras))
        errors.append(found.worst_deg)
    pooled, plain = averaged(scenes, "pooled"), averaged(scenes, "scenes")
    for threshold in (3, 5, 15, 30):
        assert pooled[f"auc_{threshold}"] == pytest.approx(auc(torch.cat(errors), threshold))
    assert pooled["auc_30"] != pytest.approx(plain["auc_30"])
    assert pooled["rta_5"] == pytest.approx(np.average([f["rta_5"] for _, f in scenes], weights=[3, 15, 6]))
    assert not any(name.startswith("below_") for name in pooled)


def test_groups_and_pixels() -> None:
    scenes = [
        ("apple", {"auc_30": 10.0, "abs_rel": 0.1, "pixels": 100.0}),
        ("apple", {"auc_30": 20.0, "abs_rel": None, "pixels": 0.0}),
        ("car", {"auc_30": 60.0, "abs_rel": 0.5, "pixels": 300.0}),
    ]
    assert averaged(scenes, "groups")["auc_30"] == pytest.approx(37.5)
    assert averaged(scenes, "scenes")["auc_30"] == pytest.approx(30.0)
    assert averaged(scenes, "pixels")["abs_rel"] == pytest.approx(0.4)
    assert averaged(scenes, "scenes")["abs_rel"] == pytest.approx(0.3)
    assert averaged([], "pooled") == {} and averaged([("", {"a": None})], "pixels") == {"a": None}


def result(values: dict[str, list[float]], **settings) -> Evaluation:
    """Scenes 0, 1, ... with one value of each plan."""
    count = len(next(iter(values.values())))
    scenes = []
    for i in range(count):
        rows = tuple(
            PlanRow(plan, f"{plan}{i}", {"auc_30": own[i], "ate": 1 / (1 + own[i])})
            for plan, own in values.items()
        )
        scenes.append(SceneRows(f"scene{i}", "", 9, "m", ("a", "b"), f"digest{i}", rows))
    protocol = {"name": "default", "columns": ["auc_30", "ate"], "average": "scenes"}
    return Evaluation({"dataset": "plain", "protocol": protocol, **settings}, {}, tuple(scenes))


def test_differences_by_scene_and_their_interval() -> None:
    dense = list(np.random.default_rng(0).normal(60, 20, 30))
    fast = [v - 2 + 0.5 * np.sin(7 * i) for i, v in enumerate(dense)]
    both = result({"dense": dense, "fast": fast})
    auc, ate = compare_results(both, both, ("dense", "fast"))
    assert auc.mean == pytest.approx(np.mean(np.array(fast) - dense))
    low, high = auc.interval
    # The normal interval of the mean is close to the bootstrap's.
    change = np.array(fast) - dense
    half = 1.96 * change.std() / np.sqrt(30)
    assert low == pytest.approx(change.mean() - half, abs=0.2 * half)
    assert high == pytest.approx(change.mean() + half, abs=0.2 * half)
    assert auc.verdict == "worse" and ate.verdict == "worse" and ate.mean > 0
    back = compare_results(both, both, ("fast", "dense"), ("auc_30",))
    assert len(back) == 1 and back[0].verdict == "better"
    same = compare_results(both, both, ("dense", "dense"))[0]
    assert same.mean == 0 and same.verdict == "not distinguishable"
    table = comparison_table((auc, ate), ("dense", "fast"))
    assert "| auc_30 | 30 |" in table and "| scene7 | ate |" in table and "worse" in table
    assert len(comparison_csv((auc, ate)).splitlines()) == 61


def test_only_the_same_inputs_are_compared() -> None:
    one, two = result({"dense": [1.0, 2.0, 3.0]}), result({"dense": [5.0, 6.0, 7.0]})
    other = dataclasses.replace(
        two, scenes=(dataclasses.replace(two.scenes[0], inputs_sha256="other frames"), *two.scenes[1:])
    )
    found = compare_results(one, other, ("dense", "dense"))[0]
    assert found.scenes == ("scene1", "scene2") and found.interval is None and found.mean == 4.0
    assert found.verdict == "too few scenes"
    failed = dataclasses.replace(two.scenes[1].rows[0], figures={}, failed="too large")
    hole = dataclasses.replace(
        two, scenes=(dataclasses.replace(two.scenes[1], rows=(failed,)), two.scenes[2])
    )
    assert compare_results(one, hole, ("dense", "dense"))[0].scenes == ("scene2",)


def test_what_two_results_are_is_reported() -> None:
    machine = {"device_name": "a card", "precision": "bf16", "manyview": "1"}
    own = {"model": "one", "weights_sha256": "a" * 64, "image_size": 518, "environment": machine}
    other = {**own, "model": "two", "weights_sha256": "b" * 64}
    lines = what_differs(result({"dense": [1.0]}, **own), result({"dense": [1.0]}, **other))
    assert len(lines) == 2 and "one, weights aaaa" in lines[0] and "two, weights bbbb" in lines[1]
    smaller = result({"dense": [1.0]}, **{**other, "image_size": 224})
    assert what_differs(result({"dense": [1.0]}, **own), smaller)[2] == "They also differ in: image_size"


@pytest.mark.parametrize(
    ("settings", "plans", "named"),
    [
        ({"dataset": "dtu"}, ("dense", "dense"), "dtu"),
        ({"protocol": {"name": "other"}}, ("dense", "dense"), "other"),
        ({}, ("dense", "fast"), "fast"),
    ],
)
def test_what_must_not_be_compared(settings, plans, named) -> None:
    with pytest.raises(UsageError, match=named):
        compare_results(result({"dense": [1.0]}), result({"dense": [1.0]}, **settings), plans)


def test_the_bootstrap_says_the_same_twice_and_nothing_of_two() -> None:
    values = [1.0, 2.0, 4.0, 8.0]
    assert bootstrap_interval(values) == bootstrap_interval(values)
    assert bootstrap_interval([1.0, 2.0]) is None
    assert bootstrap_interval([3.0, 3.0, 3.0]) == (3.0, 3.0)


def test_the_plot_shows_every_figure(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    both = result({"dense": [1.0, 2.0, 3.0, 4.0], "fast": [1.5, 1.0, 3.0, 9.0]})
    sizes = []
    for figures in (("auc_30",), ("auc_30", "ate")):
        differences = compare_results(both, both, ("dense", "fast"), figures)
        draw_differences(differences, ("a", "b"), tmp_path / "p.png")
        with Image.open(tmp_path / "p.png") as picture:
            sizes.append(picture.size[1])
            assert len(np.unique(np.asarray(picture.convert("L")))) > 10
    assert sizes[1] > sizes[0]
    draw_differences((), ("a", "b"), tmp_path / "p.png")
