"""Plans as streams beside dense: the library's own engines, the same measures, keys of their own."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from manyview.datasets import dataset_named
from manyview.errors import MemoryLimitError, UsageError
from manyview.evaluate.protocols.frames import Frames
from manyview.evaluate.protocols.measures import Depth, PointMaps, RelativePose, Trajectory
from manyview.evaluate.protocols.protocol import ANY, Protocol
from manyview.evaluate.runner import scene as runner_scene
from manyview.evaluate.runner.image_sets import evaluate_dataset
from manyview.evaluate.runner.records import Evaluation, PlanRow
from manyview.evaluate.runner.streamed import StreamedPlan, run_streamed, streamed_plans
from manyview.reconstruction.run.options import ReconstructOptions
from manyview.streaming.stream import stream
from tests.datasets.posed_fixtures import write_seven_scenes
from tests.models.tiny import tiny_vggt

ALL = Protocol(
    "all",
    "tests",
    "poses and depth of all frames",
    (RelativePose(), Trajectory(), Depth()),
    ("auc_30", "ate"),
    ((ANY, Frames("every")),),
)
OPTIONS = ReconstructOptions(precision="fp32")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    write_seven_scenes(tmp_path / "data" / "chess" / "seq-01")
    return tmp_path / "data"


def run(root: Path, *plans: str, streams: tuple[StreamedPlan, ...], protocol=ALL, **changes) -> Evaluation:
    given = (tiny_vggt(), dataset_named("7-scenes"), root, protocol, plans)
    return evaluate_dataset(*given, options=OPTIONS, workers=1, streams=streams, **changes)


def numbers(row: PlanRow) -> dict[str, float]:
    return {name: value for name, value in row.figures.items() if value is not None}


def test_one_chunk_is_the_pass_and_short_ones_are_what_the_stream_gives(root: Path) -> None:
    plan = "flash:r=2,keyframes=0"
    streams = streamed_plans(tiny_vggt(), [plan], (5, 2), options={"memory_frames": None})
    found = run(root, plan, streams=streams)
    whole, short = f"{plan}, chunks of 5", f"{plan}, chunks of 2"
    assert found.plans == ("dense", plan, whole, short)
    _, once, by_five, by_two = found.scenes[0].rows
    expected = pytest.approx(numbers(once), rel=1e-4)
    assert numbers(by_five) == expected and numbers(by_two) != expected
    assert by_two.accel == plan and by_two.timings_s["forward"] > 0
    assert by_two.memory_bytes["memory of the stream"] > 0
    assert {"measured peak", "peak of the whole process"} & by_two.memory_bytes.keys()

    posed = dataset_named("7-scenes").read(dataset_named("7-scenes").scenes(root, None, ["chess"])[0])
    scene, views = run_streamed(streams[1], posed, tiny_vggt(), OPTIONS)
    updates = list(
        stream(posed.images, tiny_vggt(), "chunks", chunk=2, precision="fp32", accel=plan, memory_frames=None)
    )
    assert len(views.records) == 5 and [len(update) for update in updates] == [2, 2, 1]
    for name in ("cam_from_world", "z_depth"):
        expected = torch.cat([getattr(update, name) for update in updates])
        torch.testing.assert_close(torch.tensor(getattr(scene, name)).float(), expected)


def test_keys_hold_the_settings_of_the_stream(root: Path) -> None:
    streams = streamed_plans(tiny_vggt(), ["flash:r=2", "anchors:frames=2"], (2,))
    assert [one.engine for one in streams] == ["chunks", "anchors"]
    found = run(root, streams=streams)
    keys = [row.key for row in found.scenes[0].rows]
    assert len(set(keys)) == 3
    again = run(root, streams=streams, earlier=found.scenes)
    assert again == found  # seconds too: nothing ran
    for changed in ({"keep_one_in": 1}, {"revise": True}):
        (other,) = streamed_plans(tiny_vggt(), ["flash:r=2"], (2,), options=changed)
        row = run(root, streams=(other,)).scenes[0].rows[1]
        assert row.plan == found.scenes[0].rows[1].plan and row.key not in keys


def test_what_cannot_stream_is_refused(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = tiny_vggt()
    (default,) = streamed_plans(model)
    assert default.engine == "chunks" and default.options["accel"].startswith("flash")
    for plans, changes, part in (
        (["avggt"], {}, "avggt"),
        (["flash"], {"engine": "anchors"}, "anchors"),
        (["anchors"], {"options": {"keep_one_in": 2}}, "keep_one_in"),
        (["flash"], {"chunks": (0,)}, "chunk"),
    ):
        with pytest.raises(UsageError, match=part):
            streamed_plans(model, plans, **changes)
    points = Protocol(
        "heads", "tests", "points", (PointMaps(points="head"),), ("nc",), ALL.frames, point_head=True
    )
    with pytest.raises(UsageError, match="point head"):
        run(root, streams=(default,), protocol=points)

    def too_large(*_: object) -> None:
        raise MemoryLimitError("no room")

    monkeypatch.setattr(runner_scene, "run_streamed", too_large)
    failed = run(root, streams=(default,)).scenes[0].rows[1]
    assert failed.failed == "no room" and not failed.figures
