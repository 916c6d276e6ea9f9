"""Wrong types and values into the Python interface: our errors, TypeError or ValueError, nothing written."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

import manyview
from manyview.models.network import Network
from manyview.reconstruction.known.arrays import KnownViews
from manyview.reconstruction.result.result import Reconstruction

from ..analytic_scene import fit_transform, room_scene
from ..models.tiny import tiny_vggt
from .mutations import ODD, examples, only_our_errors

VALUES: tuple[Any, ...] = (
    *ODD,
    b"bytes",
    object(),
    Path(),
    Path("/nonexistent/x"),
    "manyview-small\0",
    np.zeros((2, 3)),
    np.full((4, 4, 3), np.nan),
    np.full((4, 4, 3), 300.0),
    np.zeros((0, 4, 3), np.uint8),
    torch.zeros(3, 4, 4),
    torch.zeros(2, 3, 4, 4, dtype=torch.int64),
    [np.zeros((4, 4, 3), np.uint8), None],
    Image.new("L", (3, 2)),
    iter(()),
    lambda: None,
    {"a": np.zeros(3)},
    {1, 2},
    1j,
)
ANY = st.sampled_from(VALUES)
ALLOWED = (TypeError, ValueError)


@pytest.fixture(scope="module")
def scene() -> Reconstruction:
    return room_scene([fit_transform((32, 24), (28, 14))] * 2, ["a.jpg", "b.jpg"])[0]


@pytest.fixture(scope="module")
def model() -> Network:
    return tiny_vggt()


@pytest.fixture
def empty(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working folder: nothing may appear in it."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    return tmp_path


@examples(60)
@given(data=st.data())
def test_load(empty: Path, data: st.DataObject) -> None:
    options = data.draw(st.dictionaries(st.sampled_from(("device", "heads", "revision", "cache_dir")), ANY))
    name = data.draw(st.sampled_from(("manyview-small", *VALUES)))
    with only_our_errors(empty, *ALLOWED):
        manyview.load(name, offline=True, **options)


@examples(60)
@given(data=st.data())
def test_reconstruct(empty: Path, model: Network, data: st.DataObject) -> None:
    options = data.draw(
        st.dictionaries(
            st.sampled_from(("image_size", "accel", "precision", "device", "chunk", "known", "strict")), ANY
        )
    )
    images = [np.zeros((28, 28, 3), np.uint8)] * 2
    with only_our_errors(empty, *ALLOWED):
        manyview.reconstruct(
            data.draw(st.sampled_from((images, *VALUES))),
            data.draw(st.sampled_from((model, model, *VALUES))),
            **options,
        )


@examples(40)
@given(data=st.data())
def test_stream(empty: Path, model: Network, data: st.DataObject) -> None:
    names = ("engine", "chunk", "image_size", "size_policy", "inputs", "device", "precision", "accel")
    options = data.draw(st.dictionaries(st.sampled_from(names), ANY))
    images = [np.zeros((28, 28, 3), np.uint8)] * 2
    with only_our_errors(empty, *ALLOWED):
        list(manyview.stream(data.draw(st.sampled_from((images, *VALUES))), model, **options))


@examples(60)
@given(data=st.data())
def test_export(empty: Path, scene: Reconstruction, data: st.DataObject) -> None:
    given_scene = data.draw(st.sampled_from((scene, scene, *VALUES)))
    out = data.draw(st.sampled_from((None, 5, b"x", "a\0b", "/dev/null", "/proc/x", [], object())))
    name = data.draw(st.sampled_from(("ply", "colmap", *VALUES)))
    with only_our_errors(empty, *ALLOWED):
        manyview.export(given_scene, out, name, data.draw(ANY))


@examples(30)
@given(data=st.data())
def test_load_reconstruction(empty: Path, data: st.DataObject) -> None:
    with only_our_errors(empty, *ALLOWED):
        manyview.load_reconstruction(data.draw(ANY))


@examples(60)
@given(data=st.data())
def test_reconstruction(scene: Reconstruction, data: st.DataObject) -> None:
    fields = {field.name: getattr(scene, field.name) for field in dataclasses.fields(scene)}
    changes = data.draw(st.dictionaries(st.sampled_from(sorted(fields)), ANY, min_size=1, max_size=2))
    with only_our_errors(None, *ALLOWED):
        manyview.Reconstruction(**(fields | changes))


@examples(60)
@given(data=st.data())
def test_options(data: st.DataObject) -> None:
    kind = data.draw(st.sampled_from((manyview.InputOptions, manyview.ReconstructOptions, KnownViews)))
    names = [field.name for field in dataclasses.fields(kind)]
    with only_our_errors(None, *ALLOWED):
        kind(**data.draw(st.dictionaries(st.sampled_from(names), ANY, min_size=1, max_size=3)))


@examples(40)
@given(text=st.one_of(st.text(max_size=30), st.sampled_from([v for v in VALUES if isinstance(v, str)])))
def test_plans(text: str) -> None:
    with only_our_errors(None, *ALLOWED):
        manyview.Plan.parse(text, 4)
