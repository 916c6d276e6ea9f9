"""Configs as data: what is bundled loads, what is wrong is named."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from manyview.errors import UsageError
from manyview.synthetic import SceneOptions
from manyview.train.config import config_from_json, config_names, load_config
from manyview.train.schedule import blend

from .tiny import tiny_config


@pytest.mark.parametrize("name", config_names())
def test_bundled_configs_load_and_survive_json(name: str) -> None:
    config = load_config(name)
    assert config.name == name
    assert config_from_json(config.to_json()).to_json() == config.to_json()
    for stage in config.stages:
        for mix in stage.scenes:
            for within in (0.0, 0.5, 1.0):
                SceneOptions.from_dict(blend(mix.start, mix.end, within))
        for rows, columns in stage.grids:
            assert config.model.patch_size * max(rows, columns) <= config.model.image_size


def test_a_config_survives_a_file(tmp_path: Path) -> None:
    path = tmp_path / "mine.json"
    path.write_text(json.dumps(tiny_config().to_json()))
    assert load_config(path).to_json() == tiny_config().to_json()


def test_scenes_as_before() -> None:
    data = tiny_config().to_json()
    first = {**data["stages"][0], "scenes": [{"share": 2.0, "start": {"kind": "outdoor"}}]}
    config = config_from_json({**data, "stages": [first, {**first, "scenes": "as before"}, first]})
    assert [stage.scenes for stage in config.stages] == 3 * [config.stages[0].scenes]
    assert config.stages[1].scenes[0].start == {"kind": "outdoor"}
    with pytest.raises(UsageError, match=r"stages\[0\].scenes"):
        config_from_json({**data, "stages": [{**first, "scenes": "as before"}]})


def test_scenes_of_a_group_share_its_entries() -> None:
    data = tiny_config().to_json()
    inner = {
        "share": 2.0,
        "start": {"kind": "outdoor"},
        "scenes": [{"share": 3.0, "start": {"path": "walk"}}, {}],
    }
    group = {"share": 0.5, "start": {"kind": "room", "boxes": [1, 2]}, "plan": "frame", "scenes": [{}, inner]}
    stage = {**data["stages"][0], "scenes": [group, {"start": {"kind": "mixed"}}]}
    config = config_from_json({**data, "stages": [stage, {**stage, "scenes": "as before"}]})
    outdoor = {"kind": "outdoor", "boxes": [1, 2]}
    assert [(mix.share, mix.start, mix.plan) for mix in config.stages[0].scenes] == [
        (0.5, group["start"], "frame"),
        (3.0, {**outdoor, "path": "walk"}, "frame"),
        (1.0, outdoor, "frame"),
        (1.0, {"kind": "mixed"}, None),
    ]
    assert config.stages[1].scenes == config.stages[0].scenes
    assert config_from_json(config.to_json()) == config
    with pytest.raises(UsageError, match=r"stages.*scenes.*scenes.*size"):
        config_from_json({**data, "stages": [{**stage, "scenes": [{"scenes": [{"size": 3}]}]}]})


def test_config_errors_name_what_is_wrong(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"'absent'.*small"):
        load_config("absent")
    broken = tmp_path / "broken.json"
    broken.write_text("{")
    with pytest.raises(UsageError, match="broken"):
        load_config(broken)
    data = tiny_config().to_json()
    with pytest.raises(UsageError, match="learning_rate"):
        config_from_json({**data, "optimiser": {"learning_rate": 1}})
    with pytest.raises(UsageError, match=r"stages: 0: weights.*colour"):
        config_from_json({**data, "stages": [{**data["stages"][0], "weights": {"colour": 1}}]})
    with pytest.raises(UsageError, match="steps"):
        config_from_json({**data, "minutes": 3})
    for wrong in (
        {"stages": 5},
        {"stages": [5]},
        {"stages": [5, {"scenes": "as before"}]},
        {"optimiser": 3},
        {"steps": "many"},
    ):
        with pytest.raises(UsageError, match="training config"):
            config_from_json({**data, **wrong})
    for wrong in ({"bogus": 1}, {"taps": [0, 1, 2, 99]}, {"dim": "wide"}, {"encoder": 5}):
        with pytest.raises(UsageError, match="model"):
            config_from_json({**data, "model": {**data["model"], **wrong}})
    with pytest.raises(UsageError, match="training config"):
        config_from_json([1])  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="views"):
        config_from_json({**data, "stages": [{**data["stages"][0], "views": [5, 2]}]})


@pytest.mark.parametrize(
    "wrong",
    [
        {"seed": "0"},
        {"seed": 1.5},
        {"seed": -1},
        {"seed": None},
        {"minutes": float("nan"), "steps": None},
        {"optimiser": {"lr": float("inf")}},
        {"optimiser": {"betas": [0.9]}},
        {"sync_every": True},
        {"evaluate_scenes": 0},
        {"evaluate_views": 1},
        {"trained": "model"},
        {"ema": "0.5"},
        {"model": {"depth": 2**40}},
    ],
)
def test_entries_of_a_wrong_kind_are_named(wrong: dict[str, object]) -> None:
    with pytest.raises(UsageError, match=next(iter(wrong))):
        config_from_json({**tiny_config().to_json(), **wrong})


@pytest.mark.parametrize(
    "wrong",
    [
        {"grids": [[4, "4"]]},
        {"grids": [[0, 4]]},
        {"grids": [[4, 10**9]]},
        {"grids": 5},
        {"share": "1"},
        {"share": float("nan")},
        {"share": -1},
        {"plans": {"dense": "all"}},
        {"scenes": [{"share": None}]},
        {"scenes": [{"start": [1]}]},
        {"scenes": [{"posed": {"folders": "a"}}]},
        {"weights": 5},
        {"views": [1, 2, 3]},
    ],
)
def test_entries_of_a_stage_of_a_wrong_kind_are_named(wrong: dict[str, object]) -> None:
    data = tiny_config().to_json()
    with pytest.raises(UsageError, match=rf"stages.*{next(iter(wrong))}"):
        config_from_json({**data, "stages": [{**data["stages"][0], **wrong}]})


@pytest.mark.parametrize("content", [b"\xff\xfe", b"[" * 100_000, b"[]", b"", b'{"name": NaN}'])
def test_a_config_that_is_no_json_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "mine.json"
    path.write_bytes(content)
    with pytest.raises(UsageError, match=r"mine\.json"):
        load_config(path)
