"""Datasets under a root in their real layouts, the scene lists of the papers, and what is missing."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest

from manyview.datasets import TITLES, Scene, dataset_named
from manyview.errors import InputError, UsageError
from manyview.evaluate.protocols.protocol import ANY
from manyview.evaluate.protocols.published import PROTOCOLS, protocol_named

from .posed_fixtures import DATASET_WRITERS, VIEWS, WRITERS, fake_h5py, write_imc

# (dataset, writer, where its scenes lie under the root, the names they get)
_LAYOUTS = [
    ("7-scenes", "7-scenes", ("chess/seq-03", "fire/seq-04"), ("chess/seq-03", "fire/seq-04")),
    ("nrgbd", "nrgbd", ("whiteroom", "kitchen"), ("kitchen", "whiteroom")),
    ("scannet", "scannet", ("scans/scene0707_00", "scans/scene0010_01"), ("scene0010_01", "scene0707_00")),
    ("tum", "tum", ("rgbd_dataset_freiburg3_walking_xyz",), ("freiburg3_walking_xyz",)),
    ("realestate10k", "realestate10k", ("test/00ab", "test/11cd"), ("00ab", "11cd")),
    ("dtu", "dtu", ("scan4", "scan10"), ("scan4", "scan10")),
    ("eth3d", "eth3d", ("courtyard", "office"), ("courtyard", "office")),
    ("sintel", "sintel", ("training/final/alley_2", "training/final/cave_4"), ("alley_2", "cave_4")),
    ("kitti", "kitti", ("sequences/03", "sequences/10"), ("03", "10")),
    (
        "kitti-depth",
        "kitti-depth",
        ("val/2011_09_26_drive_0002_sync", "val/2011_09_28_drive_0037_sync"),
        ("2011_09_26_drive_0002", "2011_09_28_drive_0037"),
    ),
    ("bonn", "bonn", ("rgbd_bonn_crowd2", "rgbd_bonn_synchronous"), ("crowd2", "synchronous")),
    ("tanks", "tanks", ("training/Barn", "training/Truck"), ("Barn", "Truck")),
    ("strecha", "strecha", ("fountain-P11",), ("fountain-P11",)),
    ("colmap", "colmap binary", ("garden",), ("garden",)),
    ("plain", "plain", ("kitchen", "office"), ("kitchen", "office")),
]


@pytest.mark.parametrize(("name", "writer", "places", "names"), _LAYOUTS)
def test_scenes_are_found_in_the_layout_of_the_download(
    name: str, writer: str, places: tuple[str, ...], names: tuple[str, ...], tmp_path: Path
) -> None:
    for place in places:
        DATASET_WRITERS[writer](tmp_path / place)
    (tmp_path / "something else").mkdir()
    dataset = dataset_named(name)
    found = dataset.scenes(tmp_path)
    assert tuple(scene.name for scene in found) == names
    assert [scene.group for scene in found] == [s.split("/")[0] if "/" in s else "" for s in names]
    posed = dataset.read(found[0])
    assert posed.name == names[0] and len(posed) == VIEWS
    assert [s.name for s in dataset.scenes(tmp_path, only=(names[-1],))] == [names[-1]]


def _co3d(root: Path, sequences: dict[str, int]) -> None:
    """A category whose annotations claim so many frames of each sequence; five images of each are there."""
    annotations = {}
    for sequence, count in sequences.items():
        folder = root / "apple" / sequence
        WRITERS["co3d"](folder)
        with gzip.open(root / "apple" / "frame_annotations.jgz", "rt") as file:
            frames = json.load(file)
        annotations[sequence] = [
            {**f["viewpoint"], "filepath": f["image"]["path"].replace("000001", f"{i // VIEWS + 1:06}")}
            for i in range(count)
            for f in [frames[i % VIEWS]]
        ]
    (root / "annotations").mkdir()
    with gzip.open(root / "annotations" / "apple_test.jgz", "wt") as file:
        json.dump(annotations, file)


def test_co3d_takes_long_sequences_of_the_test_annotations(tmp_path: Path) -> None:
    _co3d(tmp_path, {"1_a": 60, "2_b": 49})
    found = dataset_named("co3d").scenes(tmp_path)
    assert [(scene.name, scene.group) for scene in found] == [("apple/1_a", "apple")]


def test_co3d_drops_cameras_at_infinity_and_sequences_not_listed(tmp_path: Path) -> None:
    _co3d(tmp_path, {"1_a": 60})
    path = tmp_path / "annotations" / "apple_test.jgz"
    with gzip.open(path, "rt") as file:
        data = json.load(file)
    data["3_c"] = [{**frame, "T": [1e6, 0, 0]} for frame in data["1_a"]]
    (tmp_path / "apple" / "3_c" / "images").mkdir(parents=True)
    with gzip.open(path, "wt") as file:
        json.dump(data, file)
    assert [s.name for s in dataset_named("co3d").scenes(tmp_path)] == ["apple/1_a"]
    data["3_c"][0]["T"] = [-1e6, 0, 0]  # a sum, not magnitudes, as published
    for frame in data["3_c"][1:]:
        frame["T"] = [0, 0, 0]
    (tmp_path / "co3d_v2_annotations").mkdir()
    path = path.rename(tmp_path / "co3d_v2_annotations" / path.name)
    with gzip.open(path, "wt") as file:
        json.dump(data, file)
    assert [s.name for s in dataset_named("co3d").scenes(tmp_path)] == ["apple/1_a", "apple/3_c"]


def test_a_whole_download_of_co3d_gives_the_sequences_of_the_extract(tmp_path: Path) -> None:
    names = ("1_a", "2_b", "3_c", "4_d")
    _co3d(tmp_path, dict.fromkeys(names, 60))
    with gzip.open(tmp_path / "annotations" / "apple_test.jgz", "rt") as file:
        extract = json.load(file)
    (tmp_path / "annotations" / "apple_test.jgz").unlink()
    paths = {name: [f"apple/{name}/images/frame{i:06}.jpg" for i in range(60)] for name in names}
    whole = [
        {"sequence_name": name, "image": {"path": path, "size": [24, 32]}, "viewpoint": frame}
        for name in names
        for path, frame in zip(paths[name], extract[name])
    ]
    category, data = tmp_path / "apple", dataset_named("co3d")
    with gzip.open(category / "frame_annotations.jgz", "wt") as file:
        json.dump(whole, file)
    assert len(data.scenes(tmp_path)) == 4  # nothing tells which are for tests
    # 1_a: frames from the last to the first; 3_c: quality too low; 4_d: too few frames are listed.
    entries = [
        [n, i, paths[n][i]] for n, count in (("1_a", 60), ("3_c", 60), ("4_d", 49)) for i in range(count)
    ]
    (category / "set_lists").mkdir()
    lists = category / "set_lists" / "set_lists_fewview_dev.json"
    lists.write_text(json.dumps({"train": [["2_b", 0, paths["2_b"][0]]], "test": entries[::-1]}))
    with pytest.raises(InputError, match=r"sequence_annotations\.jgz"):
        data.scenes(tmp_path)
    scores = [{"sequence_name": n, "viewpoint_quality_score": 0.5 + 0.1 * (n != "3_c")} for n in names]
    with gzip.open(category / "sequence_annotations.jgz", "wt") as file:
        json.dump(scores, file)
    lists.touch()
    (scene,) = data.scenes(tmp_path)
    assert scene.name == "apple/1_a"
    images = [image.name for image in data.read(scene).images]
    assert images == [f"frame{i:06}.jpg" for i in (5, 4, 3, 2, 1)]  # five of the sixty are there
    assert len(data.read(category / "2_b")) == VIEWS


def test_bags_of_the_image_matching_challenge_are_scenes(tmp_path: Path, monkeypatch) -> None:
    fake_h5py(monkeypatch)
    dataset = dataset_named("imc")
    for name in ("mount_rushmore", "british_museum"):
        write_imc(tmp_path / name / "set_100")
    bags = dataset.scenes(tmp_path)
    assert [scene.name for scene in bags] == ["british_museum/3bag_000", "mount_rushmore/3bag_000"]
    posed = dataset.read(bags[1])
    assert posed.name == "mount_rushmore/3bag_000" and [i.stem for i in posed.images] == ["4_x", "0_x", "2_x"]
    assert len(dataset.scenes(tmp_path, only=("mount_rushmore/*",))) == 1
    for scene in bags:
        scene.folder.unlink()
    assert [scene.name for scene in dataset.scenes(tmp_path)] == ["british_museum", "mount_rushmore"]


def test_a_partial_download_says_what_is_expected_where(tmp_path: Path) -> None:
    dataset = dataset_named("7-scenes")
    with pytest.raises(InputError, match=r"7-Scenes.*/chess/seq-03/frame-000000"):
        dataset.scenes(tmp_path)
    with pytest.raises(InputError, match=r"nowhere.*/chess/seq-03/frame-000000"):
        dataset.scenes(tmp_path / "nowhere")
    WRITERS["7-scenes"](tmp_path / "chess" / "seq-03")
    with pytest.raises(InputError, match=r"17 of 18 .*chess/seq-05, fire/seq-03.*--scenes"):
        dataset.scenes(tmp_path, "test")
    assert len(dataset.scenes(tmp_path, "test", only=("chess",))) == 1
    with pytest.raises(InputError, match=r"office/\*.*chess/seq-03"):
        dataset.scenes(tmp_path, only=("office/*",))


def test_the_lists_are_those_of_the_papers() -> None:
    scenes = {(d, s): dataset_named(d).split(s) for d in TITLES for s in dataset_named(d).splits}
    assert {key: len(names) for key, names in scenes.items()} == {
        ("7-scenes", "test"): 18,
        ("7-scenes", "da3"): 7,
        ("nrgbd", "nine"): 9,
        ("tum", "dynamics"): 8,
        ("co3d", "seen41"): 41,
        ("co3d", "all51"): 51,
        ("dtu", "test22"): 22,
        ("eth3d", "training"): 13,
        ("eth3d", "da3"): 11,
        ("realestate10k", "test1719"): 1719,
        ("sintel", "fourteen"): 14,
        ("kitti", "training"): 11,
        ("kitti-depth", "val13"): 13,
        ("bonn", "five"): 5,
        ("tanks", "training"): 7,
        ("scannet++", "da3"): 20,
        ("dtu-64", "da3"): 13,
        ("imc", "test8"): 8,
        ("spatialbench", "single"): 18,
        ("spatialbench", "sparse"): 17,
        ("spatialbench", "medium"): 17,
        ("spatialbench", "dense"): 15,
    }
    assert all(len(set(names)) == len(names) for names in scenes.values())
    assert set(scenes["co3d", "seen41"]) < set(scenes["co3d", "all51"])
    with pytest.raises(ValueError, match=r"tum.*'statics'"):
        dataset_named("tum").split("statics")


def test_protocols_name_datasets_and_splits_that_exist() -> None:
    for protocol in PROTOCOLS.values():
        names = [name for name, _ in protocol.frames]
        assert set(names) <= {*TITLES, ANY}
        for name in names:
            split = None if name == ANY else protocol.split_of(name)
            assert split is None or split in dataset_named(name).splits
        assert json.loads(json.dumps(protocol.to_json()))["name"] == protocol.name
    with pytest.raises(UsageError, match=r"pi3-trajectory .*dtu.*sintel, tum"):
        protocol_named("pi3-trajectory").frames_of("dtu")
    with pytest.raises(UsageError, match="'best'"):
        protocol_named("best")
    with pytest.raises(UsageError, match="'best'"):
        dataset_named("best")


def test_scannet_50_is_every_nth_by_name() -> None:
    protocol = PROTOCOLS["fastvggt-scannet50-100"]
    scenes = [Scene(f"scene{i:04}_00", Path()) for i in range(125)]
    chosen = [scene.name for scene in protocol.scenes_of(scenes[::-1], len_of)]
    assert len(chosen) == 50 and chosen[:2] == ["scene0000_00", "scene0002_00"]
    assert protocol.scenes_of(scenes[:50], len_of) == tuple(scenes[:50])
    assert PROTOCOLS["default"].scenes_of(scenes, len_of) == tuple(scenes)


def test_httms_scenes_of_scannet_are_drawn_among_the_long_ones() -> None:
    protocol = PROTOCOLS["httm-scannet-500"]
    scenes = [Scene(f"scene{i:04}_00", Path()) for i in range(100)]
    chosen = protocol.scenes_of(scenes[::-1], len_of)
    assert len(chosen) == 15 and all(len_of(scene) > 2000 for scene in chosen)
    assert chosen == protocol.scenes_of(scenes, len_of) == tuple(sorted(chosen, key=lambda s: s.name))
    assert len(protocol.scenes_of(scenes[:20], len_of)) == sum(len_of(scene) > 2000 for scene in scenes[:20])
    assert protocol.frames_of("scannet").choose(2500) == list(range(0, 1000, 2))


def len_of(scene: Scene) -> int:
    """Every third scene is longer than 2000 frames."""
    return 2001 if int(scene.name[5:9]) % 3 == 0 else 2000
