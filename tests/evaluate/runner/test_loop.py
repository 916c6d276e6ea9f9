"""A run over a dataset: dense always there, rows taken over only where nothing changed, what does not fit."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from manyview.cli.evaluate_dataset import split_plans
from manyview.datasets import dataset_named, read_posed_set
from manyview.errors import InputError, MemoryLimitError, OutputError, UsageError
from manyview.evaluate.protocols.frames import Frames
from manyview.evaluate.protocols.measures import Depth, RelativePose
from manyview.evaluate.protocols.protocol import ANY, Protocol
from manyview.evaluate.protocols.published import PROTOCOLS
from manyview.evaluate.report.evaluation import evaluation_table
from manyview.evaluate.report.files import (
    earlier_scenes,
    evaluation_csv,
    file_stem,
    read_evaluation,
    write_evaluation,
)
from manyview.evaluate.runner import scene as runner_scene
from manyview.evaluate.runner.image_sets import evaluate_dataset
from manyview.evaluate.runner.settings import evaluation_settings, inputs_digest, run_options
from manyview.reconstruction.run.options import ReconstructOptions
from tests.datasets.posed_fixtures import write_dtu, write_image, write_nrgbd, write_plain, write_seven_scenes
from tests.models.tiny import TINY, tiny_vggt

QUICK = Protocol(
    "quick",
    "tests",
    "poses and depth",
    (RelativePose(), Depth()),
    ("auc_30", "abs_rel"),
    ((ANY, Frames("spread", most=3)),),
)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for name in ("chess/seq-01", "fire/seq-02"):
        write_seven_scenes(tmp_path / "data" / name)
    return tmp_path / "data"


def run(root: Path, *plans: str, **changes):
    return evaluate_dataset(tiny_vggt(), dataset_named("7-scenes"), root, QUICK, plans, workers=1, **changes)


def test_dense_is_always_in_the_same_run(root: Path) -> None:
    heard: list[tuple[int, int]] = []
    found = run(root, "frame", progress=lambda done, total: heard.append((done, total)))
    assert found.plans == ("dense", "frame") and heard == [(1, 4), (2, 4), (3, 4), (4, 4)]
    scene = found.scenes[0]
    assert scene.name == "chess/seq-01" and scene.group == "chess" and scene.total == 5
    assert scene.frames == tuple(f"frame-{i:06}.color.png" for i in (0, 2, 4))
    assert scene.rows[0].figures["pairs"] == 3 and scene.rows[0].timings_s["forward"] > 0
    summary = found.summary()["dense"]
    expected = np.mean([s.rows[0].figures["abs_rel"] for s in found.scenes])
    assert summary["abs_rel"] == pytest.approx(expected) and summary["scenes"] == 2
    below = [sum(s.rows[0].figures[f"below_{d}"] for s in found.scenes) for d in range(1, 31)]
    assert summary["pooled_auc_30"] == pytest.approx(100 * np.mean(below) / 6)
    table = evaluation_table(found, "manyview evaluate 7-scenes")
    assert "| `frame` |" in table and "2 scenes of 3 frames" in table and "3 of 5" in table
    assert len(evaluation_csv(found).splitlines()) == 1 + 4 + 2


def test_only_what_is_unchanged_is_taken_over(root: Path, tmp_path: Path, monkeypatch) -> None:
    out = tmp_path / "out"
    out.mkdir()
    first = run(root, "frame")
    write_evaluation(first, out, "a command")
    again = read_evaluation(out / f"{file_stem(first.settings)}.json")
    assert again.scenes == first.scenes and again.summary() == first.summary()
    ran: list[str] = []
    real = runner_scene.reconstruct
    monkeypatch.setattr(runner_scene, "reconstruct", lambda ready, m: ran.append("run") or real(ready, m))
    settings = evaluation_settings(tiny_vggt(), dataset_named("7-scenes"), QUICK)
    assert settings == again.settings
    earlier = earlier_scenes(out, "7-scenes.quick", settings, overwrite=False)
    assert run(root, "frame", earlier=earlier).scenes == first.scenes and not ran
    # One pixel of one picture, a new plan, another number of frames: exactly those passes run again.
    write_image(root / "fire" / "seq-02" / "frame-000002.color.png", 77)
    changed = run(root, "frame", earlier=earlier)
    assert len(ran) == 2 and changed.scenes[0] == first.scenes[0]
    assert changed.scenes[1].inputs_sha256 != first.scenes[1].inputs_sha256
    ran.clear()
    run(root, "avggt", earlier=changed.scenes)
    assert len(ran) == 2
    ran.clear()
    fewer = run(root, frames=Frames("spread", most=2), earlier=changed.scenes)
    assert len(ran) == 2
    assert "not those of the protocol" in evaluation_table(fewer)
    assert "not those of the protocol" not in evaluation_table(changed)


def test_results_of_other_settings_are_not_mixed_in(root: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    first = run(root)
    write_evaluation(first, out, "a command")
    other = evaluation_settings(tiny_vggt(), dataset_named("7-scenes"), QUICK, Frames("spread", most=2))
    with pytest.raises(OutputError, match=r"frames.*--overwrite"):
        earlier_scenes(out, "7-scenes.quick", other, overwrite=False)
    assert earlier_scenes(out, "7-scenes.quick", other, overwrite=True) == ()
    (out / "7-scenes.quick.json").write_text("{}")
    with pytest.raises(OutputError, match=r"7-scenes\.quick\.json"):
        earlier_scenes(out, "7-scenes.quick", other, overwrite=False)
    assert earlier_scenes(tmp_path, "7-scenes.quick", other, overwrite=False) == ()


def test_every_input_byte_is_in_the_digest(root: Path) -> None:
    dataset = dataset_named("7-scenes")
    posed = dataset.read(dataset.scenes(root)[0])
    known = inputs_digest(posed)
    assert inputs_digest(posed) == known
    moved = dataclasses.replace(posed, cam_from_world=posed.cam_from_world + 1e-9)
    depth = root / "chess" / "seq-01" / "frame-000001.depth.png"
    assert inputs_digest(moved) != known and inputs_digest(posed.select([0, 1])) != known
    depth.write_bytes(depth.read_bytes() + b" ")
    assert inputs_digest(posed) != known


def test_masks_of_depth_are_in_the_digest(tmp_path: Path) -> None:
    folder = tmp_path / "scan1"
    write_dtu(folder)
    known = inputs_digest(read_posed_set(folder))
    mask = sorted((folder / "binary_masks").iterdir())[0]
    mask.write_bytes(mask.read_bytes() + b" ")
    assert inputs_digest(read_posed_set(folder)) != known


def test_a_plan_that_does_not_fit_leaves_the_others(root: Path, monkeypatch) -> None:
    real = runner_scene.prepare

    def short(inputs, model, options):
        if options.accel == "dense" and "seq-02" in str(inputs[0]):
            raise MemoryLimitError("needs 99 GiB")
        return real(inputs, model, options)

    monkeypatch.setattr(runner_scene, "prepare", short)
    found = run(root, "frame")
    assert found.scenes[1].rows[0].failed == "needs 99 GiB" and not found.scenes[1].rows[0].figures
    summary = found.summary()
    # Averages are over the scenes that every plan finished.
    assert summary["dense"]["scenes"] == summary["frame"]["scenes"] == 1
    assert summary["frame"]["abs_rel"] == found.scenes[0].rows[1].figures["abs_rel"]
    table = evaluation_table(found)
    assert "did not fit" in table and "leave out 1 scenes" in table
    calls: list[int] = []
    monkeypatch.setattr(runner_scene, "prepare", lambda *a: calls.append(1) or real(*a))
    assert run(root, "frame", earlier=found.scenes).scenes[1].rows[0].failed is None and len(calls) == 1


def test_lists_of_frames(root: Path) -> None:
    lists = {"chess/seq-01": ["frame-000003.color.png", "frame-000001.color"]}
    found = run(root, frames=lists, only=("chess",))
    assert found.scenes[0].frames == ("frame-000003.color.png", "frame-000001.color.png")
    assert found.settings["frames"] == lists
    with pytest.raises(InputError, match="fire/seq-02"):
        run(root, frames=lists)
    with pytest.raises(InputError, match="nine"):
        run(root, frames={"chess/seq-01": ["nine"]}, only=("chess",))


def test_what_cannot_be_is_refused_before_anything_runs(root: Path, monkeypatch) -> None:
    monkeypatch.setattr(runner_scene, "reconstruct", lambda *a: pytest.fail("ran"))
    with pytest.raises(UsageError, match="fast"):
        run(root, "fast")
    with pytest.raises(UsageError, match=r"pi3-trajectory.*7-scenes"):
        evaluate_dataset(tiny_vggt(), dataset_named("7-scenes"), root, PROTOCOLS["pi3-trajectory"])


def test_plans_joined_by_commas() -> None:
    assert split_plans(["dense,avggt,frame"]) == ("dense", "avggt", "frame")
    assert split_plans(["avggt:early=3,stride=2x2,flash", "dense"]) == (
        "avggt:early=3,stride=2x2",
        "flash",
        "dense",
    )
    assert split_plans(["0-3:frame,4-5:dense,avggt", "avggt"]) == ("0-3:frame,4-5:dense", "avggt")
    assert split_plans([]) == ()


@pytest.mark.parametrize("name", ["pi3-points-dense", "fastvggt-points-3", "flashvggt"])
def test_protocols_of_papers_run_on_a_miniature(name: str, tmp_path: Path) -> None:
    write_nrgbd(tmp_path / "kitchen")
    found = evaluate_dataset(
        tiny_vggt(),
        dataset_named("nrgbd"),
        tmp_path,
        PROTOCOLS[name],
        only=("kitchen",),
        options=ReconstructOptions(image_size=56),
        workers=1,
    )
    figures = found.scenes[0].rows[0].figures
    assert set(PROTOCOLS[name].columns) <= set(figures)
    assert figures["accuracy_median"] is not None and figures["points_compared"] > 100
    if name == "pi3-points-dense":  # its own points, at the pixels of the network and not of the truth
        assert figures["points_compared"] > 22 * 32 and figures["from_head"] == 1.0


def test_image_sizes_and_point_heads_of_protocols_are_those_that_a_network_can_have() -> None:
    model, without = tiny_vggt(), tiny_vggt(config=dataclasses.replace(TINY, point_head=None))
    sizes = {n: run_options(model, PROTOCOLS[n]).image_size for n in ("pi3-pose", "pi3-points-dense")}
    assert sizes == {"pi3-pose": 504, "pi3-points-dense": 518}
    assert run_options(model, PROTOCOLS["default"]).image_size is None
    assert run_options(model, PROTOCOLS["pi3-pose"], ReconstructOptions(image_size=28)).image_size == 28
    heads = [run_options(m, PROTOCOLS["pi3-points-dense"]).point_head for m in (model, without)]
    assert heads == [True, False]


def test_scenes_without_depth_still_have_poses(tmp_path: Path) -> None:
    write_plain(tmp_path / "a")
    for path in (tmp_path / "a" / "depth").iterdir():
        path.unlink()
    found = evaluate_dataset(tiny_vggt(), dataset_named("plain"), tmp_path, PROTOCOLS["default"], workers=1)
    figures = found.scenes[0].rows[0].figures
    assert figures["auc_30"] is not None and figures["ate"] is not None
    assert figures["abs_rel"] is None and figures["accuracy"] is None
    assert "–" in evaluation_table(found)


def test_depth_is_not_read_where_no_measure_needs_it(root: Path) -> None:
    poses = dataclasses.replace(QUICK, measures=(RelativePose(),), columns=("auc_30",))
    whole = run(root)
    for path in root.rglob("*.depth.png"):
        path.write_bytes(b"damaged")
    found = evaluate_dataset(tiny_vggt(), dataset_named("7-scenes"), root, poses, workers=1)
    for one, other in zip(whole.scenes, found.scenes):
        assert other.rows[0].figures["auc_30"] == one.rows[0].figures["auc_30"]
    with pytest.raises(InputError, match=r"depth\.png"):
        run(root)
    assert [PROTOCOLS[n].needs for n in ("pi3-pose", "pi3-video-depth", "flashvggt")] == [
        "cameras",
        "depth",
        "points",
    ]
