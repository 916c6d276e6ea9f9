"""Whatever the views are called, exports lie inside their folder, are whole, and change nothing else."""

from __future__ import annotations

import dataclasses
import json
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import manyview
from manyview.export import FORMATS, export
from manyview.export.nerfstudio import NerfstudioOptions
from manyview.reconstruction.known.depth import DepthFolder
from tests.analytic_scene import room_scene, write_sources
from tests.models.tiny import tiny_vggt

_NAMES = [
    "1:30.jpg",
    "back\\slash.jpg",
    "T:x.jpg",
    "nul.txt.png",
    "a b.jpg",
    "a_b.jpg",
    "A B.jpg",
    "e\u0301.jpg",
]
_NAMES += ["\x1b[31mred\n.jpg", "\u202egpj.jpg", " /x.jpg", "x" * 250 + ".png"]


def _formats() -> list[str]:
    return [name for name in FORMATS if name != "colmap"] + ["colmap"] * bool(_pycolmap())


def _pycolmap() -> object:
    try:
        import pycolmap
    except ImportError:
        return None
    pycolmap.logging.minloglevel = 2
    return pycolmap


def _tree(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("name", ["colmap", "nerfstudio"])
def test_a_folder_called_space_leads_nowhere_else(tmp_path: Path, name: str) -> None:
    if name == "colmap" and _pycolmap() is None:
        pytest.skip("needs pycolmap")
    victim = tmp_path / "elsewhere" / "holiday.jpg"
    victim.parent.mkdir()
    victim.write_bytes(b"mine")
    scene, truth = room_scene(names=[f" {victim}", " /x.jpg"], views=2)
    scene = write_sources(scene, truth, tmp_path / "in")
    before = _tree(tmp_path)
    written = export(scene, tmp_path / "out", name)
    assert all(path.resolve().is_relative_to(tmp_path / "out") for path in written)
    after = _tree(tmp_path)
    assert {
        path: data for path, data in after.items() if not path.startswith(f"{tmp_path / 'out'}/")
    } == before


@pytest.mark.skipif(os.name == "nt", reason="names that POSIX allows")
def test_a_name_that_posix_allows_works_from_input_to_every_export(tmp_path: Path) -> None:
    folder = Path(os.fsdecode(os.fsencode(tmp_path) + b"/ph\xe9"))
    generator = np.random.default_rng(0)
    names = [*_NAMES, os.fsdecode(b"caf\xe9.jpg"), os.fsdecode(b"caf\xe8.jpg")]
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        small = Image.fromarray(generator.integers(0, 255, (4, 6, 3), dtype=np.uint8))
        small.resize((48, 32)).save(folder / name, format="PNG" if name.endswith("png") else "JPEG")
    (folder / os.fsdecode(b"raw\xff\x1b.dng")).write_bytes(b"raw")  # ends in a note
    scene = manyview.reconstruct(folder, tiny_vggt())
    assert len(scene) == len(names) and len(set(scene.names)) == len(names)
    assert {view.source_path for view in scene.views} == {folder / name for name in names}
    (note,) = [note for note in scene.notes if "dng" in note]
    assert note.isprintable() and "\\xff\\x1b" in note
    scene.save(tmp_path / "result")
    stored = manyview.load_reconstruction(tmp_path / "result")
    assert stored.views == tuple(dataclasses.replace(view, image=None) for view in scene.views)
    for name in _formats():
        written = export(stored, tmp_path / "out" / name, name)
        assert written and all(path.is_file() for path in written)
    for name in ("nerfstudio", "depth", "colmap")[: 2 + ("colmap" in _formats())]:
        images = [path for path in (tmp_path / "out" / name).rglob("*") if path.suffix in (".jpg", ".png")]
        assert len({str(path).lower() for path in images}) == len(names)
        assert not any(set(str(path.relative_to(tmp_path))) & set(" :\\\x1b\n") for path in images)
    assert len(_tree(tmp_path / "out" / "depth")) == len(names) + 2
    known = DepthFolder(tmp_path / "out" / "depth" / "depth")
    assert all(known.read(view) is not None for view in stored.views)


def test_spaces_are_treated_alike(tmp_path: Path) -> None:
    scene, truth = room_scene(names=["half turn/a b.png", "plain.png"], views=2)
    scene = write_sources(scene, truth, tmp_path / "in")
    assert scene.source_image_names == ("half_turn/a_b.png", "plain.png")
    export(scene, tmp_path / "out", "depth")
    listed = json.loads((tmp_path / "out" / "depth" / "depth.json").read_text())["views"]
    assert [(view["name"], view["file"]) for view in listed] == [
        ("half turn/a b.png", "half_turn/a_b.png"),
        ("plain.png", "plain.png"),
    ]


def test_a_foreign_result_copies_only_what_was_reconstructed(tmp_path: Path) -> None:
    """Its header may name any file: one of the right size that shows something else stays where it is."""
    scene, truth = room_scene(views=2)
    scene = write_sources(scene, truth, tmp_path / "in")
    for name in ("secret.png", "text.png"):
        private = tmp_path / name
        Image.fromarray(255 - truth.upright_image(0)).save(private)
        if name == "text.png":
            private.write_text("root:x:0:0")
        views = (dataclasses.replace(scene.views[0], source=str(private)), scene.views[1])
        foreign = dataclasses.replace(scene, views=views)
        with pytest.raises(manyview.ManyViewError) as caught:
            export(foreign, tmp_path / "out", "nerfstudio")
        assert name in str(caught.value) and not (tmp_path / "out").exists()
    assert export(foreign, tmp_path / "out", "nerfstudio", NerfstudioOptions(images="none"))
