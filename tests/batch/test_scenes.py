"""Scenes of a list or a folder: names, inputs, shards."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from manyview.batch.scenes import Scene, Shard, read_scenes, write_list
from manyview.errors import InputError, UsageError


def test_a_folder_gives_its_folders_and_videos(tmp_path: Path) -> None:
    for name in ("room 10", "room 2", ".hidden", "__MACOSX"):
        (tmp_path / name).mkdir()
    for name in ("walk.mp4", "readme.txt", "photo.jpg"):
        (tmp_path / name).touch()
    assert read_scenes(tmp_path) == [
        Scene("room_2", str(tmp_path / "room 2")),
        Scene("room_10", str(tmp_path / "room 10")),
        Scene("walk", str(tmp_path / "walk.mp4")),
    ]


def test_a_list_gives_inputs_and_names(tmp_path: Path) -> None:
    (tmp_path / "b").mkdir()
    path = tmp_path / "list.txt"
    path.write_bytes(
        b"\xef\xbb\xbf# remark\r\na/images\tkitchen\r\n\r\n  b  \n/elsewhere/c.mp4\n"
        b"few/*.jpg\nr\xe9sum\xe9\tcv\n"
    )
    assert read_scenes(path) == [
        Scene("kitchen", str(tmp_path / "a" / "images")),
        Scene("b", str(tmp_path / "b")),
        Scene("c.mp4", "/elsewhere/c.mp4"),
        Scene("few", str(tmp_path / "few" / "*.jpg")),
        Scene("cv", os.path.join(tmp_path, os.fsdecode(b"r\xe9sum\xe9"))),
    ]


def test_what_is_written_is_read_again(tmp_path: Path) -> None:
    scenes = [Scene("a", str(tmp_path / "x y")), Scene("b", str(tmp_path / "#1"))]
    path = tmp_path / "failed.txt"
    path.write_text(write_list([(scene, "it\nfailed") for scene in scenes]))
    assert read_scenes(path) == scenes


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("", "list.txt"),
        ("# nothing\n", "list.txt"),
        ("a/images\nb/images\n", "images"),
        ("a\tKitchen\nb\tkitchen\n", "itchen"),
        ("a\tone/two\n", "one/two"),
        ("a\t.manyview-batch\n", ".manyview-batch"),
        ("/\n", "line 1"),
        ("a\t" + "n" * 300 + "\n", "nnn"),
        ("a\0b\n", "line 1"),
    ],
)
def test_lists_that_cannot_be(tmp_path: Path, text: str, named: str) -> None:
    path = tmp_path / "list.txt"
    path.write_text(text)
    with pytest.raises(InputError) as error:
        read_scenes(path)
    assert named in str(error.value)


def test_what_is_no_folder_of_scenes(tmp_path: Path) -> None:
    (tmp_path / "photo.jpg").touch()
    with pytest.raises(InputError, match="photos" if "photos" in str(tmp_path) else "manyview reconstruct"):
        read_scenes(tmp_path)
    with pytest.raises(InputError, match="nowhere"):
        read_scenes(tmp_path / "nowhere")


def test_shards_are_disjoint_complete_and_do_not_move() -> None:
    scenes = [Scene(f"scene-{i}", f"/{i}") for i in range(300)]
    parts = [Shard(i + 1, 7).of(scenes) for i in range(7)]
    assert sorted(scene.name for part in parts for scene in part) == sorted(scene.name for scene in scenes)
    assert min(map(len, parts)) > 20
    assert [scene for scene in Shard(3, 7).of(scenes[:100])] == [s for s in parts[2] if s in scenes[:100]]
    assert Shard.parse("3/7") == Shard(3, 7) and Shard().of(scenes) == scenes


@pytest.mark.parametrize("text", ["0/4", "5/4", "1", "1/0", "a/b", "", "-1/4", "1/4/2"])
def test_shards_that_cannot_be(text: str) -> None:
    with pytest.raises(UsageError, match="--shard"):
        Shard.parse(text)
