"""The bundled weights warn of images that ManyView did not render, and of no others."""

from __future__ import annotations

import dataclasses
import json

import pytest
from PIL import Image
from tools.results.credits import recipes_of, training_sets

import manyview
from manyview.export.report import ReportOptions, report_html
from manyview.models.families import MODELS
from manyview.synthetic import demo_scene, write_scene


@pytest.fixture(scope="module")
def model():
    model = manyview.load("manyview-small")
    model.info = dataclasses.replace(model.info, trained_on="rendered scenes")
    return model


@pytest.fixture(scope="module")
def rendered(tmp_path_factory):
    folder = tmp_path_factory.mktemp("scene") / "scene"
    return write_scene(folder, demo_scene(2, 24, 32))


@pytest.mark.parametrize("row", MODELS, ids=lambda row: row.name)
def test_weights_say_what_they_saw_if_no_photographs_were_among_it(row):
    """Of those in the package their recipes tell; all others have seen photographs."""
    photographs: list[str] = ["unknown"]
    if row.hub_id is None:
        info = manyview.load(row.name).info
        assert info is not None
        photographs, _ = training_sets(recipes_of(info.metadata))
    assert (row.trained_on is None) == bool(photographs)


def test_photographs_bring_a_warning_that_is_stored_and_shown_first(photos, model, tmp_path, caplog):
    scene = manyview.reconstruct(photos, model, image_size=56)
    (text,) = scene.warnings
    for word in ("manyview-small", "rendered scenes", "--model vggt-1b", "CC-BY-NC-4.0", "no commercial use"):
        assert word in text
    assert text in caplog.text
    folder = scene.save(tmp_path / "out")
    assert manyview.load_reconstruction(folder).warnings == (text,)
    page = report_html(scene, ReportOptions())
    assert page.index("rendered scenes") < page.index('class="facts"')


def test_results_of_earlier_versions_have_none(photos, model, tmp_path):
    folder = manyview.reconstruct(photos, model, image_size=56).save(tmp_path / "out")
    header = json.loads((folder / "reconstruction.json").read_text())
    assert header.pop("warnings")
    (folder / "reconstruction.json").write_text(json.dumps(header))
    assert manyview.load_reconstruction(folder).warnings == ()


def test_rendered_scenes_bring_none(rendered, model):
    assert manyview.reconstruct(rendered, model, image_size=56).warnings == ()
    images = [Image.open(path) for path in sorted(rendered.iterdir())]
    assert manyview.reconstruct(images, model, image_size=56).warnings == ()


def test_one_photograph_among_them_does(rendered, photos, model):
    paths = [*sorted(rendered.iterdir()), photos / "0.png"]
    assert manyview.reconstruct(paths, model, image_size=56).warnings


def test_other_weights_do_not(photos, model):
    info = model.info
    model.info = dataclasses.replace(info, trained_on=None)
    try:
        assert manyview.reconstruct(photos, model, image_size=56).warnings == ()
    finally:
        model.info = info


def test_arrays_are_not_known_to_be_rendered(model):
    images = demo_scene(2, 24, 32).images[0]
    assert manyview.reconstruct(images, model, image_size=56).warnings
