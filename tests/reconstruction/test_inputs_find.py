"""Which files a request stands for: folders, patterns, lists, single files, and what is refused."""

from __future__ import annotations

import os
import random
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from manyview.errors import InputError, UsageError
from manyview.files.naming import natural_key, suggestion
from manyview.files.paths import path_from_text
from manyview.files.spread import evenly_spread
from manyview.reconstruction.inputs.decode import ImageReadError, open_image
from manyview.reconstruction.inputs.find import find_inputs
from manyview.reconstruction.inputs.options import InputOptions, InputSet


def _picture(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (32, 24), (90, 120, 60)).save(path, format="PNG" if path.suffix == ".x" else None)
    return path


def _names(found: InputSet) -> list[str]:
    return [file.name for file in found.files]


def test_folder_in_natural_order_with_subfolders(tmp_path: Path) -> None:
    for name in [
        "frame_10.png",
        "frame_2.png",
        "Frame_1.png",
        "right_10/1.png",
        "right_9/12.png",
        "right_9/3.png",
    ]:
        _picture(tmp_path / name)
    found = find_inputs(tmp_path)
    assert found.kind == "photos"
    assert _names(found) == [
        "Frame_1.png",
        "frame_2.png",
        "frame_10.png",
        "right_9/3.png",
        "right_9/12.png",
        "right_10/1.png",
    ]
    assert [file.path for file in found.files] == [tmp_path / name for name in _names(found)]
    assert "ordered by the numbers in their names (frame_2.png before frame_10.png)" in found.warnings[0]


def test_nothing_is_told_about_order_that_is_plain(tmp_path: Path) -> None:
    for name in ["b.png", "A.png", "c/01.png", "c/02.png"]:
        _picture(tmp_path / name)
    assert find_inputs(tmp_path).warnings == ()


@given(
    st.lists(st.from_regex(r"[a-c_]{0,2}[0-9]{0,3}[a-b]?(/[a-c]?[0-9]{1,3})?", fullmatch=True), min_size=2)
)
def test_natural_order_does_not_depend_on_the_order_found(names: list[str]) -> None:
    shuffled = names.copy()
    random.Random(0).shuffle(shuffled)
    assert sorted(names, key=natural_key) == sorted(shuffled, key=natural_key)


@given(st.integers(0, 10**9), st.integers(0, 10**9))
def test_natural_order_follows_the_numbers(first: int, second: int) -> None:
    a, b = f"in/frame_{first}.png", f"in/frame_{second}.png"
    assert (natural_key(a) < natural_key(b)) == (first < second)


def test_clutter_is_ignored_but_stray_videos_and_raws_are_told(tmp_path: Path) -> None:
    for name in [
        "a.png",
        ".hidden.png",
        "._a.png",
        "Thumbs.db",
        "notes.txt",
        ".cache/b.png",
        "clip.MP4",
        "c.NEF",
    ]:
        target = tmp_path / name
        target.parent.mkdir(exist_ok=True)
        target.write_bytes(b"x")
    found = find_inputs(tmp_path)
    assert _names(found) == ["a.png"]
    assert any("1 video (clip.MP4), not used" in warning for warning in found.warnings)
    assert any("1 camera raw file (c.NEF)" in warning for warning in found.warnings)


def test_companion_folders_are_left_out_and_told(tmp_path: Path) -> None:
    for name in ["images/1.png", "images_4/1.png", "depth/1.png", "masks/1.png", "old/1.png"]:
        _picture(tmp_path / name)
    (tmp_path / "old" / "reconstruction.json").write_text("{}")
    found = find_inputs(tmp_path)
    assert _names(found) == ["images/1.png"]
    told = " ".join(found.warnings)
    assert "(depth, masks): by their names they hold no photographs" in told
    assert "(images_4): smaller copies of 'images'" in told
    assert "(old): results of an earlier run" in told
    # Asked for by name, such a folder is as good as any.
    assert _names(find_inputs(tmp_path / "depth")) == ["1.png"]
    # And without photographs beside them, nothing is left out.
    assert _names(find_inputs(_picture(tmp_path / "other" / "masks" / "1.png").parents[1])) == ["masks/1.png"]


def test_same_file_name_in_two_subfolders_keeps_both(tmp_path: Path) -> None:
    _picture(tmp_path / "left" / "1.png")
    _picture(tmp_path / "right" / "1.png")
    assert _names(find_inputs(tmp_path)) == ["left/1.png", "right/1.png"]


def test_a_loop_of_links_ends(tmp_path: Path) -> None:
    _picture(tmp_path / "sub" / "1.png")
    (tmp_path / "sub" / "again").symlink_to(tmp_path)
    assert _names(find_inputs(tmp_path)) == ["sub/1.png"]


def test_links_that_lead_nowhere_are_skipped_with_a_note(tmp_path: Path) -> None:
    _picture(tmp_path / "1.png")
    (tmp_path / "self.jpg").symlink_to(tmp_path / "self.jpg")
    (tmp_path / "gone").symlink_to(tmp_path / "nowhere")
    found = find_inputs(tmp_path)
    assert _names(found) == ["1.png"]
    (note,) = found.warnings
    assert "self.jpg" in note and "gone" in note


def test_a_linked_folder_is_followed(tmp_path: Path) -> None:
    _picture(tmp_path / "far" / "1.png")
    (tmp_path / "near").mkdir()
    (tmp_path / "near" / "link").symlink_to(tmp_path / "far")
    assert _names(find_inputs(tmp_path / "near")) == ["link/1.png"]


def test_pattern(tmp_path: Path) -> None:
    for name in ["p/a/f_10.png", "p/a/f_9.png", "p/b/f_1.png", "p/b/skip.png"]:
        _picture(tmp_path / name)
    (tmp_path / "p" / "a" / "f_0.txt").write_text("x")
    found = find_inputs(str(tmp_path / "p" / "*" / "f_*"))
    assert _names(found) == ["a/f_9.png", "a/f_10.png", "b/f_1.png"]
    assert _names(find_inputs(str(tmp_path / "**" / "f_1*.png"))) == ["p/a/f_10.png", "p/b/f_1.png"]


def test_a_folder_whose_name_looks_like_a_pattern(tmp_path: Path) -> None:
    _picture(tmp_path / "day[1]" / "1.png")
    assert _names(find_inputs(str(tmp_path / "day[1]"))) == ["1.png"]


def test_list_file_keeps_its_order(tmp_path: Path) -> None:
    elsewhere = _picture(tmp_path / "elsewhere" / "3.png")
    for name in ["2.png", "sub/1 with space.png"]:
        _picture(tmp_path / "lists" / name)
    listing = tmp_path / "lists" / "views.txt"
    listing.write_text(
        f"\ufeff# order of capture\r\nsub/1 with space.png\r\n\r\n  2.png  \r\n{elsewhere}\r\n", newline=""
    )
    found = find_inputs(listing)
    assert _names(found) == ["lists/sub/1 with space.png", "lists/2.png", "elsewhere/3.png"]
    inside = tmp_path / "lists" / "inside"
    inside.write_text("2.png\nsub/1 with space.png\n2.png\n")
    found = find_inputs(inside)
    assert _names(found) == ["2.png", "sub/1 with space.png"]
    assert "1 repeated path" in found.warnings[0]


def test_sequence_of_paths_keeps_its_order(tmp_path: Path) -> None:
    paths = [_picture(tmp_path / name) for name in ["b.png", "a.png"]]
    assert _names(find_inputs([str(paths[0]), paths[1]])) == ["b.png", "a.png"]


def test_single_files_by_name_and_by_content(tmp_path: Path) -> None:
    assert _names(find_inputs(_picture(tmp_path / "one.png"))) == ["one.png"]
    assert _names(find_inputs(_picture(tmp_path / "picture.x"))) == ["picture.x"]
    video = tmp_path / "walk.mov"
    video.write_bytes(b"not looked at yet")
    assert find_inputs(video).kind == "video"
    unnamed = tmp_path / "clip"
    unnamed.write_bytes(b"\x00\x00\x00\x20ftypisom\x00\x00\x02\x00isomiso2avc1mp41")
    assert find_inputs(unnamed).kind == "video"


def test_stride_and_limit_thin_photos_evenly(tmp_path: Path) -> None:
    for index in range(10):
        _picture(tmp_path / f"{index}.png")
    assert _names(find_inputs(tmp_path, InputOptions(stride=4))) == ["0.png", "4.png", "8.png"]
    found = find_inputs(tmp_path, InputOptions(max_frames=4))
    assert _names(found) == ["0.png", "3.png", "6.png", "9.png"]
    assert found.warnings == ("4 of 10 images are used, evenly chosen",)


def test_few_of_many_reach_from_the_first_to_the_last() -> None:
    images = [Image.new("RGB", (32, 24))] * 50
    found = find_inputs(images, InputOptions(max_frames=6))
    assert _names(found) == [f"view-{number + 1:04d}" for number in evenly_spread(50, 6)]
    assert evenly_spread(50, 6) == [0, 10, 20, 29, 39, 49]


def test_video_options_do_not_pass_silently_for_photos(tmp_path: Path) -> None:
    _picture(tmp_path / "1.png")
    with pytest.raises(UsageError, match="fps and sharpest_of"):
        find_inputs(tmp_path, InputOptions(fps=2, sharpest_of=3))


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"fps": 0}, "fps"),
        ({"fps": float("nan")}, "fps"),
        ({"stride": 0}, "stride"),
        ({"max_frames": -1}, "max_frames"),
        ({"sharpest_of": 0}, "sharpest_of"),
        ({"fps": 1, "stride": 2}, "fps and stride"),
        ({"start_s": -1}, "start_s"),
        ({"start_s": 5, "end_s": 5}, "end_s .*start_s"),
    ],
)
def test_impossible_options(options: dict[str, float], named: str) -> None:
    with pytest.raises(UsageError, match=named):
        InputOptions(**options)  # type: ignore[arg-type]


def test_missing_path_suggests_what_was_meant(tmp_path: Path) -> None:
    _picture(tmp_path / "photos" / "1.png")
    with pytest.raises(InputError, match=r"fotos'.*'photos'"):
        find_inputs(tmp_path / "fotos")
    with pytest.raises(InputError, match=r"'phtos'.*'photos'"):
        find_inputs(tmp_path / "phtos" / "1.png")
    assert "did you mean 'photos'" in suggestion(tmp_path / "Photo")


@pytest.mark.parametrize(
    ("make", "named"),
    [
        (lambda p: p, "{folder}"),
        (lambda p: (p / "a.mp4").write_bytes(b"x") and p, "{folder}/a.mp4"),
        (lambda p: (p / "a.CR3").write_bytes(b"x") and p, "a.CR3"),
        (lambda p: str(p / "*.jpg"), "*.jpg"),
        (lambda p: (p / "sub").mkdir() or str(p / "*"), "/*"),
        (lambda p: (p / "a.dat").write_bytes(b"x") and str(p / "*"), "1 file"),
        (lambda p: (p / "a.dat").write_bytes(b"\0\1\2") and p / "a.dat", "a.dat"),
        (lambda p: (p / "l.txt").write_text("# nothing\n\n") and p / "l.txt", "l.txt"),
        (
            lambda p: (p / "l.txt").write_text("x\ngone.jpg") and p / "l.txt",
            "line 1 of the list '{folder}/l.txt'",
        ),
        (lambda p: (p / "l.txt").write_text(".") and p / "l.txt", "line 1"),
        (lambda p: (p / "l.txt").write_bytes(b"\xff\xfe\0\0") and p / "l.txt", "l.txt"),
        (lambda p: [], "empty"),
        (lambda p: "  ", "empty"),
        (lambda p: "a\0b", r"a\x00b"),
        (lambda p: "a" * 5000, "aaaa"),
        (lambda p: [p / "no.jpg", p / "neither.jpg"], "no.jpg"),
    ],
)
def test_unusable_requests(tmp_path: Path, make, named: str) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(InputError) as caught:
        find_inputs(make(tmp_path))
    assert named.format(folder=tmp_path) in str(caught.value)
    assert caught.value.exit_code == 2
    assert "\n" not in str(caught.value)


def test_things_that_are_no_paths() -> None:
    with pytest.raises(UsageError, match="input 0 is a int") as caught:
        find_inputs([1, 2])  # type: ignore[list-item]
    assert "paths" in str(caught.value)
    with pytest.raises(UsageError, match="int"):
        find_inputs(3)  # type: ignore[arg-type]


def test_videos_among_pictures_are_refused_where_they_were_named(tmp_path: Path) -> None:
    _picture(tmp_path / "a.png")
    (tmp_path / "b.mp4").write_bytes(b"x")
    with pytest.raises(InputError, match=r"b\.mp4"):
        find_inputs([tmp_path / "a.png", tmp_path / "b.mp4"])


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.jpg")
    with pytest.raises(InputError, match=tmp_path.name):
        find_inputs(tmp_path)
    with pytest.raises(InputError, match=r"a\.jpg"):
        find_inputs(tmp_path / "a.jpg")
    for name in ("list.txt", "clip.mp4", "unknown"):
        os.mkfifo(tmp_path / name)
        with pytest.raises(InputError, match=name):
            find_inputs(tmp_path / name)
    (tmp_path / "names.lst").write_text("a.jpg\n")
    with pytest.raises(InputError, match=r"a\.jpg"):
        find_inputs(tmp_path / "names.lst")
    with pytest.raises(ImageReadError):
        open_image(tmp_path / "a.jpg")


@pytest.mark.parametrize("name", ["x" * 5000, "a\0b", "~nobody-is-called-so/x", "\ud800"])
def test_names_that_no_file_can_have(name: str, tmp_path: Path) -> None:
    for spec in (name, [name, name]):
        with pytest.raises(InputError) as caught:
            find_inputs(spec)
        assert len(str(caught.value)) < 400
    (tmp_path / "list.txt").write_bytes(name.encode("utf-8", "surrogatepass") + b"\n")
    with pytest.raises(InputError):
        find_inputs(tmp_path / "list.txt")


@pytest.mark.skipif(os.name == "nt", reason="names are always text there")
def test_names_that_are_not_text_become_printable(tmp_path: Path) -> None:
    path = Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9.png"))
    try:
        _picture(path)
    except OSError:
        pytest.skip("this file system takes only text")
    (name,) = _names(find_inputs(tmp_path))
    assert name == "caf\ufffd.png"


@pytest.mark.skipif(os.name == "nt", reason="names are always text there")
def test_a_list_may_hold_names_that_are_not_text(tmp_path: Path) -> None:
    names = [os.fsdecode(b"caf\xe9.png"), "line\u2028end.png", "1:30.png"]
    for name in names:
        _picture(tmp_path / name)
    (tmp_path / "list.txt").write_bytes("\r\n".join(names).encode("utf-8", "surrogateescape"))
    found = find_inputs(tmp_path / "list.txt")
    assert [file.path.name for file in found.files] == names
    assert path_from_text(found.files[0].source) == tmp_path / names[0]


def test_a_file_may_be_called_like_an_image_in_memory(tmp_path: Path) -> None:
    path = _picture(tmp_path / "1.png").rename(tmp_path / "view-0002")
    assert len(set(_names(find_inputs([path, Image.new("RGB", (32, 24))])))) == 2


def test_real_folders(shared_data: Path) -> None:
    stray = find_inputs(shared_data / "odd-formats" / "stray-files")
    assert _names(stray) == ["1.jpg", "2.jpg", "10.jpg", "19.jpg", "subfolder/5.jpg"]
    assert len(find_inputs(shared_data / "photos-lund-door-colmap").files) == 12
    assert len(find_inputs(shared_data / "photos-lund-street").files) == 29
    kitchen = find_inputs(shared_data / "rgbd-redkitchen")
    assert len(kitchen.files) == 100
    assert kitchen.files[0].name == "color/000000.jpg"
