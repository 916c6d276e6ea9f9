"""Images, data sets, known cameras, point clouds and evaluations that are damaged."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from manyview.datasets import dataset_of, read_posed_set
from manyview.errors import ManyViewError
from manyview.evaluate.report.files import read_evaluation
from manyview.files.ply_mesh import read_mesh
from manyview.reconstruction.inputs.find import find_inputs
from manyview.reconstruction.inputs.load import read_views
from manyview.reconstruction.inputs.options import InputOptions
from manyview.reconstruction.known.cameras import read_known_cameras

from ..datasets.posed_fixtures import DATASET_WRITERS
from ..evaluate.report.test_comparison import result
from .mutations import damaged, examples, json_bytes, mutated, only_our_errors

IMAGES = ("PNG", "JPEG", "TIFF", "WEBP", "BMP", "GIF")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("inputs")


@pytest.mark.filterwarnings("ignore")
@examples(60)
@given(data=st.data())
def test_images(place: Path, data: st.DataObject) -> None:
    folder = place / "photos"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    kind = data.draw(st.sampled_from(IMAGES))
    pixels = np.random.default_rng(0).integers(0, 255, (24, 32, 3), dtype=np.uint8)
    for name in ("a", "b"):
        Image.fromarray(pixels).save(folder / f"{name}.{kind.lower()}", kind)
    path = folder / f"b.{kind.lower()}"
    path.write_bytes(data.draw(damaged(path.read_bytes(), 300)))
    with only_our_errors():
        read_views(find_inputs(folder, InputOptions()), target_size=28)


@examples(120)
@given(data=st.data())
def test_data_sets_and_known_cameras(place: Path, data: st.DataObject) -> None:
    kind = data.draw(st.sampled_from(sorted(DATASET_WRITERS)))
    whole = place / kind.replace(" ", "-") / "scene"
    if not whole.exists():
        whole.mkdir(parents=True)
        DATASET_WRITERS[kind](whole)
    again = place / "again" / "scene"
    shutil.rmtree(again.parent, ignore_errors=True)
    shutil.copytree(whole.parent, again.parent)
    files = sorted(path for path in again.parent.rglob("*") if path.is_file())
    texts = [path for path in files if path.suffix not in (".png", ".jpg", ".JPG", ".ppm")]
    path = data.draw(st.sampled_from(texts or files))
    path.write_bytes(data.draw(damaged(path.read_bytes(), 300)))
    with only_our_errors():
        if dataset_of(again) is not None:
            posed = read_posed_set(again)
            if posed.depth is not None:
                posed.depth.read(0)
            if posed.cloud is not None:
                read_mesh(posed.cloud)
    with only_our_errors():
        read_known_cameras(again)


@pytest.mark.filterwarnings("ignore")
@examples(40)
@given(data=st.data())
def test_point_clouds(place: Path, data: st.DataObject) -> None:
    fields = "".join(f"property float {name}\n" for name in "xyz")
    faces = "element face 1\nproperty list uchar int vertex_indices\n"
    header = f"ply\nformat {{}} 1.0\nelement vertex 2\n{fields}{faces}end_header\n"
    ascii_file = header.format("ascii").encode() + b"0 0 0\n1 1 1\n3 0 1 0\n"
    rows = np.zeros((2, 3), "<f4").tobytes() + b"\x03" + np.array([0, 1, 0], "<i4").tobytes()
    binary = header.format("binary_little_endian").encode() + rows
    (place / "p.ply").write_bytes(data.draw(damaged(data.draw(st.sampled_from((ascii_file, binary))), 300)))
    with only_our_errors():
        read_mesh(place / "p.ply")


@examples(40)
@given(data=st.data())
def test_evaluations(place: Path, data: st.DataObject) -> None:
    whole = json.loads(json.dumps(result({"dense": [1.0, 2.0]}).to_json()))
    (place / "e.json").write_bytes(json_bytes(data.draw(mutated(whole))))
    with only_our_errors():
        read_evaluation(place / "e.json").summary()


def test_the_documents_themselves_are_read(place: Path) -> None:
    """What is mutated above is valid before."""
    for kind, write in DATASET_WRITERS.items():
        folder = place / "whole" / kind.replace(" ", "-") / "part" / "scene"
        folder.mkdir(parents=True)
        write(folder)
        if kind not in ("imc", "kitti-depth", "plain"):
            try:
                assert len(read_posed_set(folder))
            except ManyViewError as error:
                raise AssertionError(kind) from error
