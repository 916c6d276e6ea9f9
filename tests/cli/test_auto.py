"""Commands where no model is named: what was taken is said and stored, and photographs bring a warning."""

from __future__ import annotations

import pytest

import manyview
from manyview.models.families import find_model
from manyview.synthetic import demo_scene, write_scene
from tests.models import test_published_layout as layout


def check_warnings(text: str, scene: manyview.Reconstruction) -> None:
    """Weights that were trained on some kinds of images alone bring one warning, in the last line."""
    row = find_model("manyview-photos")
    assert row is not None and len(scene.warnings) == (row.trained_on is not None)
    said = [line for line in text.splitlines() if line.startswith("warning: ")]
    assert said == [f"warning: {one}" for one in scene.warnings]
    assert text.splitlines()[-1].startswith("warning: ") == bool(said)


def test_reconstruct_says_and_stores_what_was_taken(command, photos, tmp_path):
    out = tmp_path / "out"
    status, text, error = command("reconstruct", photos, out, "--to", "ply", "--image-size", 56)
    assert status == 0
    scene = manyview.load_reconstruction(out)
    assert scene.settings["model"] == "manyview-photos"
    assert len([note for note in scene.notes if note.startswith("auto takes manyview-photos")]) == 1
    assert (text + error).count("auto takes manyview-photos") == 1
    check_warnings(text, scene)


def test_stream_too(command, photos, tmp_path):
    out = tmp_path / "out"
    status, text, error = command("stream", photos, out, "--image-size", 56)
    assert status == 0
    scene = manyview.load_reconstruction(out)
    assert scene.settings["model"] == "manyview-photos" and "auto takes manyview-photos" in scene.notes[0]
    assert (text + error).count("auto takes manyview-photos") == 1
    check_warnings(text, scene)


def test_rendered_scenes_bring_no_warning(command, tmp_path):
    images = write_scene(tmp_path / "scene", demo_scene(2, 24, 32))
    text = command("stream", images, tmp_path / "out", "--image-size", 56)[1]
    assert "warning:" not in text and "written to" in text
    assert manyview.load_reconstruction(tmp_path / "out").warnings == ()


def test_plan_says_it_too(command, photos):
    status, text, error = command("plan", photos)
    assert status == 0 and (text + error).count("auto takes manyview-photos") == 1


def test_the_preferred_model_is_taken_from_the_cache(command, photos, tmp_path, monkeypatch):
    constants = pytest.importorskip("huggingface_hub.constants")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    row = find_model("da3-base")
    assert row is not None
    layout.write(tmp_path / "cache", "Depth Anything 3", row, layout.tensors_of("Depth Anything 3", row))
    for verb in ("reconstruct", "stream"):
        out = tmp_path / verb
        status, text, error = command(verb, photos, out, "--to", "ply", "--image-size", 56)
        assert status == 0, error
        assert "auto takes da3-base (Apache-2.0)" in error and "warning:" not in text
        scene = manyview.load_reconstruction(out)
        assert scene.settings["model"] == "da3-base" and "auto takes da3-base" in scene.notes[0]
        assert scene.warnings == ()
