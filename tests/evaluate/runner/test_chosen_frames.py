"""Which frames of which scenes a run takes: drawn over the whole list, named or counted, left out."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

import numpy as np
import pytest

from manyview.datasets import Dataset, dataset_named
from manyview.errors import InputError
from manyview.evaluate.protocols.frames import Frames
from manyview.evaluate.protocols.measures import RelativePose
from manyview.evaluate.protocols.protocol import ANY, Protocol
from manyview.evaluate.protocols.published import PROTOCOLS
from manyview.evaluate.runner import scene as runner_scene
from manyview.evaluate.runner.chosen_frames import chosen_frames
from manyview.evaluate.runner.image_sets import evaluate_dataset
from tests.datasets.posed_fixtures import write_seven_scenes
from tests.models.tiny import tiny_vggt

NAMES = ("chess/seq-2", "chess/seq-10", "fire/seq-1")
RANDOM = Frames("random", most=3, seed=42)
DRAWN = Protocol(
    "drawn", "tests", "poses", (RelativePose(),), ("auc_30",), ((ANY, RANDOM),), (("7-scenes", "three"),)
)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for name in NAMES:
        write_seven_scenes(tmp_path / name)
    return tmp_path


def dataset(*names: str) -> Dataset:
    return dataclasses.replace(dataset_named("7-scenes"), splits={"three": " ".join(names or NAMES)})


def numbers(root: Path, only: tuple[str, ...] = (), lists=None, of: Dataset | None = None) -> dict:
    """Numbers of the chosen frames by scene."""
    of = of or dataset()
    scenes = of.scenes(root, "three", only)
    chosen = chosen_frames(of, root, DRAWN, scenes, RANDOM, lists)
    assert all(total == 5 for _, total in chosen)
    return {
        scene.name: [int(path.name[6:12]) for path in posed.images]
        for scene, (posed, _) in zip(scenes, chosen)
    }


def test_one_generator_draws_over_all_scenes_in_the_order_of_their_names(root: Path) -> None:
    generator = np.random.RandomState(42)
    drawn = {name: generator.choice(5, 3, replace=False).tolist() for name in sorted(NAMES)}
    assert list(drawn) == ["chess/seq-10", "chess/seq-2", "fire/seq-1"]  # as text, not as numbers
    assert numbers(root) == drawn and any(own != sorted(own) for own in drawn.values())
    for name in NAMES:
        assert numbers(root, (name,)) == {name: drawn[name]}


def test_a_list_with_missing_scenes_is_said(root: Path) -> None:
    of = dataset(*NAMES, "stairs/seq-4")
    with pytest.raises(InputError, match="stairs"):
        numbers(root, of=of)
    assert numbers(root, ("fire",), of=of) == numbers(root, ("fire",))
    ((posed, _),) = chosen_frames(of, root, DRAWN, of.scenes(root, None, ("fire",)), RANDOM)
    assert "drawn over 3 scenes; 1 of the list" in posed.notes[-1]
    # Nobody has every scene of a source that loses them, so what is there is used.
    gone = dataclasses.replace(of, vanishing=True)
    assert numbers(root, of=gone) == numbers(root)
    with pytest.raises(InputError, match="stairs"):
        gone.scenes(root, None, ("stairs",))
    with pytest.raises(InputError, match="stairs"):
        dataclasses.replace(gone, splits={"three": "stairs"}).scenes(root, "three")


def test_the_list_of_realestate10k() -> None:
    names = dataset_named("realestate10k").split("test1719")
    assert len(set(names)) == 1719 and list(names) == sorted(names)
    assert all(re.fullmatch("[0-9a-f]{16}", name) for name in names)
    for protocol in ("vggt-pose", "pi3-pose"):
        assert PROTOCOLS[protocol].split_of("realestate10k") == "test1719"


def test_listed_frames_are_named_or_counted_and_keep_their_order(root: Path) -> None:
    for frames in ([3, 0, 2], ["frame-000003.color", "frame-000000.color.png", 2]):
        assert numbers(root, ("fire",), {"fire/seq-1": frames}) == {"fire/seq-1": [3, 0, 2]}
        assert numbers(root, ("fire",), {"seq-1": frames}) == {"fire/seq-1": [3, 0, 2]}
    for wrong in (5, "frame-000007"):
        with pytest.raises(InputError, match=rf"seq-1.*{wrong}"):
            numbers(root, ("fire",), {"fire/seq-1": [wrong]})
    with pytest.raises(InputError, match="seq-2"):
        numbers(root, ("chess/seq-2",), {"fire/seq-1": [0]})


def test_a_split_goes_without_some_frames(root: Path) -> None:
    of = dataclasses.replace(dataset(), left_out={"three": "fire/*-00000[0-2].color.png", "two": "*"})
    scenes = of.scenes(root, None, ("fire",))
    ((posed, total),) = chosen_frames(of, root, DRAWN, scenes, Frames("spread", most=9))
    assert [path.name[6:12] for path in posed.images] == ["000003", "000004"] and total == 5


def test_the_network_sees_frames_in_the_order_of_the_draw(root: Path, monkeypatch) -> None:
    seen: list[list[str]] = []
    real = runner_scene.reconstruct

    def watched(ready, model):
        found = real(ready, model)
        seen.append([record.name for record in found.views])
        return found

    monkeypatch.setattr(runner_scene, "reconstruct", watched)
    found = evaluate_dataset(tiny_vggt(), dataset(), root, DRAWN, only=("chess/seq-2",), workers=1)
    (scene,) = found.scenes
    assert seen == [list(scene.frames)] and list(scene.frames) != sorted(scene.frames)
