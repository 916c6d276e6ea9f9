"""Foreign and edited result folders: every entry of the header is checked, and every array's type."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file, save_file

from manyview import load_reconstruction
from manyview.errors import DamagedInputError, InputError, OutputError
from manyview.reconstruction.result import load
from manyview.reconstruction.result.save import ARRAYS_NAME, HEADER_NAME, check_output_folder

from ..analytic_scene import fit_transform, room_scene


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    transforms = [fit_transform((320, 240), (56, 42))] * 2
    return room_scene(transforms, ["a.jpg", "b.jpg"])[0].save(tmp_path / "result")


def edit(folder: Path, place: str, value: Any) -> None:
    """Set an entry such as "views.0.name" of the header."""
    header = json.loads((folder / HEADER_NAME).read_text())
    *parents, last = place.split(".")
    where = header
    for name in parents:
        where = where[int(name) if isinstance(where, list) else name]
    where[last] = value
    (folder / HEADER_NAME).write_text(json.dumps(header))


@pytest.mark.parametrize("value", [0, -1.0, float("nan"), float("inf"), 1e300, "1", None, True, [1]])
@pytest.mark.parametrize("name", ["scale_x", "scale_y"])
def test_a_scale_that_is_none_is_refused(folder: Path, name: str, value: object) -> None:
    edit(folder, f"views.1.transform.{name}", value)
    with pytest.raises(DamagedInputError, match=HEADER_NAME):
        load_reconstruction(folder)


@pytest.mark.parametrize(
    ("place", "value"),
    [
        ("views.0.transform", 5),
        ("views.0.transform.content_box", [0, 0, 5]),
        ("views.0.transform.content_box", [0, 0, -5, 5]),
        ("views.0.transform.content_box", [0, 0, 10**6, 10**6]),
        ("views.0.transform.orientation", 9),
        ("views.0.transform.stored_width", "320"),
        ("views.0.transform.stored_width", 10**20),
        ("views.0.transform.offset_x", None),
        ("views.0.source", 5),
        ("views.0.source", None),
        ("views.0.name", 5),
        ("views.0.time_s", "x"),
        ("views.0.video_frame", 1.5),
        ("views", {}),
        ("timings_s", {"forward": "fast"}),
        ("timings_s", [1.0]),
        ("timings_s", None),
        ("memory_bytes", {"measured peak": "big"}),
        ("notes", "text"),
        ("notes", [1]),
        ("settings", [1]),
        ("settings_hash", None),
        ("save_id", 5),
        ("receipt", "text"),
        ("pixel_centres", 1),
    ],
)
def test_an_entry_of_a_wrong_kind_names_itself(folder: Path, place: str, value: object) -> None:
    edit(folder, place, value)
    with pytest.raises(DamagedInputError, match=HEADER_NAME) as caught:
        load_reconstruction(folder)
    assert place.split(".")[0] in str(caught.value)


@pytest.mark.parametrize(
    "deep", ['{"format": ' + "[" * 100_000, '{"views": ' + '{"a":' * 5000 + "1" + "}" * 5001]
)
def test_nested_json_is_refused(folder: Path, deep: str) -> None:
    (folder / HEADER_NAME).write_text(deep)
    with pytest.raises(DamagedInputError, match=HEADER_NAME):
        load_reconstruction(folder)


def test_a_fifo_is_refused_at_once(folder: Path) -> None:
    (folder / HEADER_NAME).unlink()
    os.mkfifo(folder / HEADER_NAME)
    with pytest.raises(InputError, match=HEADER_NAME):
        load_reconstruction(folder)


def test_a_view_name_that_is_no_utf_8_is_read(folder: Path) -> None:
    edit(folder, "views.0.source", os.fsdecode(b"/x/\xff.jpg"))
    assert os.fsencode(load_reconstruction(folder).views[0].source) == b"/x/\xff.jpg"


@pytest.mark.parametrize("mapped", [False, True])
def test_arrays_of_another_type_are_refused(
    folder: Path, monkeypatch: pytest.MonkeyPatch, mapped: bool
) -> None:
    if mapped:
        monkeypatch.setattr(load, "MAP_FROM_BYTES", 0)
    path = folder / ARRAYS_NAME
    content = path.read_bytes()
    path.write_bytes(content.replace(b'"dtype":"F32"', b'"dtype":"I32"'))
    assert path.read_bytes() != content
    with pytest.raises(DamagedInputError, match=ARRAYS_NAME):
        load_reconstruction(folder)


def test_mapped_arrays_of_bfloat16_are_refused(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save_id = json.loads((folder / HEADER_NAME).read_text())["save_id"]
    tensors = load_file(folder / ARRAYS_NAME)
    tensors["z_depth"] = tensors["z_depth"].bfloat16()
    save_file(tensors, folder / ARRAYS_NAME, {"save_id": save_id})
    monkeypatch.setattr(load, "MAP_FROM_BYTES", 0)
    with pytest.raises(DamagedInputError, match="z_depth"):
        load_reconstruction(folder)


@pytest.mark.parametrize("deep", [False, True])
@pytest.mark.parametrize("name", [HEADER_NAME, ARRAYS_NAME])
def test_a_foreign_file_in_the_way_of_a_save_is_named(folder: Path, name: str, deep: bool) -> None:
    (folder / HEADER_NAME).write_text("[" * 100_000)
    (folder / name).unlink()
    if deep:
        (folder / name).write_text("[" * 100_000)
    else:
        os.mkfifo(folder / name)
    with pytest.raises(OutputError, match=folder.name):
        check_output_folder(folder, overwrite=True)
