"""`manyview refine` and `reconstruct --refine` around structure from motion, which is a fake here."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import manyview
from manyview.cli.main import _with_values
from manyview.errors import InputError, MissingExtraError, UsageError
from manyview.files.manifest import MANIFEST_NAME
from manyview.reconstruction.known.arrays import KnownViews
from tests.analytic_scene import room_scene, write_sources
from tests.refine.fakes import fake_solve
from tests.refine.solutions import network_room, solution_of

from .conftest import Command


@pytest.fixture
def room(tmp_path: Path):
    """(a result on the disk with its sources, the solution that would refine it)."""
    scene, exact, truth = network_room()
    scene = write_sources(scene, truth, tmp_path / "images")
    scene.save(tmp_path / "result")
    return tmp_path / "result", solution_of(exact, truth)


def test_a_stored_result_is_refined_in_place(command: Command, room, monkeypatch) -> None:
    folder, solution = room
    fake = fake_solve(monkeypatch, solution)
    before = manyview.load_reconstruction(folder)
    before.export(folder, "ply", {"min_conf_percentile": 20.0})
    stamp = (folder / "points.ply").read_bytes()
    status, text, errors = command("refine", folder, "--camera", "shared")
    assert status == 0, errors
    after = manyview.load_reconstruction(folder)
    assert after.refinement["accepted"] and "6 of 6 views" in text
    assert after.settings["refine"]["camera"] == "shared"
    assert after.settings_hash != before.settings_hash and after.quality is not None
    assert (folder / "points.ply").read_bytes() != stamp  # what was exported is made again, as it was
    assert '"min_conf_percentile": 20.0' in (folder / MANIFEST_NAME).read_text()
    assert not list(folder.glob(".manyview-*"))
    status, text, _ = command("refine", folder, "--camera", "shared")
    assert status == 0 and "before" in text and len(fake.calls) == 1
    assert command("refine", folder, "--camera", "per-view")[0] == 0 and len(fake.calls) == 2


def test_masks_that_change_ask_for_another_refinement(command: Command, room, monkeypatch, tmp_path) -> None:
    folder, solution = room
    fake = fake_solve(monkeypatch, solution)
    before = manyview.load_reconstruction(folder)
    (tmp_path / "masks").mkdir()
    for view in before.views:
        kept = np.full((view.transform.upright_height, view.transform.upright_width), 255, np.uint8)
        kept[:, :10] = 0
        Image.fromarray(kept).save(tmp_path / "masks" / f"{view.name}.png")
    assert command("refine", folder)[0] == 0 and len(fake.calls) == 1
    for repeat in range(2):
        status, text, errors = command("refine", folder, "--masks", tmp_path / "masks")
        assert status == 0, errors
        assert len(fake.calls) == 2 and ("these settings" in text) == bool(repeat)
    after = manyview.load_reconstruction(folder)
    assert after.masked is not None and after.masked.any((1, 2)).all()
    assert after.settings["masks"]["views"] == len(after) and after.refinement["accepted"]
    np.testing.assert_array_equal(before.with_masks(tmp_path / "masks").masked, after.masked)
    status, _, errors = command("refine", folder, "--masks", tmp_path / "nowhere")
    assert status != 0 and "nowhere" in errors


def test_another_folder_gets_the_refined_result(command: Command, room, monkeypatch, tmp_path) -> None:
    folder, solution = room
    fake_solve(monkeypatch, solution)
    status, _, errors = command("refine", folder, "--out", tmp_path / "exact", "--to", "report")
    assert status == 0, errors
    assert manyview.load_reconstruction(folder).refinement is None
    assert manyview.load_reconstruction(tmp_path / "exact").refinement["accepted"]
    page = (tmp_path / "exact" / "report.html").read_text()
    assert "Cameras: <b>refined</b>" in page and "held-out error" in page
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine.txt").write_text("x")
    assert command("refine", folder, "--out", tmp_path / "full")[0] != 0


def test_what_was_not_accepted_is_told_and_stored(command: Command, room, monkeypatch) -> None:
    folder, _ = room
    fake = fake_solve(monkeypatch)
    before = manyview.load_reconstruction(folder)
    status, text, _ = command("refine", folder, "--to", "report")
    after = manyview.load_reconstruction(folder)
    assert status == 0 and "not refined" in text and "nothing was found" in text
    np.testing.assert_array_equal(after.cam_from_world, before.cam_from_world)
    assert "Cameras: <b>not refined</b>" in (folder / "report.html").read_text()
    assert "not refined" in command("refine", folder)[1] and len(fake.calls) == 1


def test_a_stopped_refinement_leaves_the_result_and_goes_on(command: Command, room, monkeypatch) -> None:
    folder, solution = room
    fake_solve(monkeypatch, None, KeyboardInterrupt())
    status, text, _ = command("refine", folder)
    assert status == 1 and "goes on" in text
    assert manyview.load_reconstruction(folder).refinement is None
    fake = fake_solve(monkeypatch, solution)
    left = (folder / ".manyview-refine" / "database.db").read_text()
    assert left == "features"
    assert command("refine", folder)[0] == 0
    assert fake.calls[0]["work"] == folder / ".manyview-refine"


def test_a_source_that_is_gone_is_named(command: Command, room, monkeypatch) -> None:
    folder, solution = room
    fake_solve(monkeypatch, solution)
    images = folder.parent / "images"
    (images / "view_3.png").rename(images / "elsewhere.png")
    status, _, errors = command("refine", folder)
    assert status == 2 and "view_3.png" in errors and "--images" in errors
    moved = shutil.copytree(images, folder.parent / "moved")
    (moved / "elsewhere.png").rename(moved / "view_3.png")
    assert command("refine", folder, "--images", moved)[0] == 0
    assert manyview.load_reconstruction(folder).views[3].source_path == moved / "view_3.png"


def test_without_pycolmap_nothing_begins(command: Command, photos, weights, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr("manyview.refine.refinement.util.find_spec", lambda name: None)
    scene, _ = room_scene(views=2)
    with pytest.raises(MissingExtraError, match="colmap"):
        scene.refine()
    out = tmp_path / "out"
    status, _, errors = command("reconstruct", "--refine", photos, out, "--model", weights)
    assert status == 2 and "manyview[colmap]" in errors and not out.exists()


def test_reconstruct_and_refine(command: Command, photos, weights, tmp_path, monkeypatch) -> None:
    out, line = tmp_path / "out", ("--model", weights, "--to", "none")
    fake = fake_solve(monkeypatch, None, KeyboardInterrupt())
    assert command("reconstruct", "--refine", photos, out, *line)[0] == 1
    scene = manyview.load_reconstruction(out)  # the network's result was saved before
    assert scene.refinement is None and "refine" not in scene.settings
    fake = fake_solve(monkeypatch)
    status, text, errors = command("reconstruct", "--refine", photos, out, *line)
    assert status == 0 and "already holds" in text and "not refined" in text, errors
    assert command("reconstruct", photos, out, *line, "--refine", "cameras")[0] == 0
    assert len(fake.calls) == 1  # the same command again does nothing
    assert "overwrite" in command("reconstruct", "--refine", photos, out, *line, "--camera", "per-view")[2]
    assert "overwrite" in command("reconstruct", photos, out, *line)[2]  # the network's is another result
    status, _, errors = command("reconstruct", photos, tmp_path / "no", *line, "--camera", "per-view")
    assert status == 2 and "--camera" in errors and "--refine" in errors


def test_known_cameras_beside_a_network_that_takes_images_only(
    command: Command, photos, weights, tmp_path, monkeypatch
) -> None:
    (tmp_path / "intrinsics.txt").write_text("60 0 31.5\n0 60 23.5\n0 0 1\n")
    line = (photos, tmp_path / "out", "--model", weights, "--to", "none")
    known = ("--known-cameras", tmp_path / "intrinsics.txt")
    status, _, errors = command("reconstruct", *line, *known)
    assert status == 2 and "--refine" in errors
    fake = fake_solve(monkeypatch)
    status, _, errors = command("reconstruct", *line, *known, "--refine")
    assert status == 0, errors
    [call] = fake.calls
    np.testing.assert_allclose(call["known"].intrinsics, [[[60, 0, 32], [0, 60, 24], [0, 0, 1]]] * 4)
    assert np.isnan(call["known"].cam_from_world).all()
    settings = manyview.load_reconstruction(tmp_path / "out").settings
    assert "known" not in settings and "known_sha256" in settings["refine"]
    assert "already holds" in command("reconstruct", *line, *known, "--refine")[1]
    assert "overwrite" in command("reconstruct", *line, "--refine")[2]  # other cameras are another result


def test_the_method_and_the_function(room, monkeypatch, tmp_path) -> None:
    folder, solution = room
    fake = fake_solve(monkeypatch, solution)
    scene = manyview.load_reconstruction(folder)
    one, two = scene.refine(), manyview.refine(scene, options=manyview.RefineOptions())
    np.testing.assert_array_equal(one.cam_from_world, two.cam_from_world)
    poses = [camera if index < 2 else None for index, camera in enumerate(scene.cam_from_world)]
    scene.refine(known=KnownViews(cam_from_world=poses))
    passed = fake.calls[-1]["known"].cam_from_world
    np.testing.assert_allclose(passed[:2], scene.cam_from_world[:2], atol=1e-9)
    with pytest.raises(UsageError, match="known depth"):
        scene.refine(known=KnownViews(z_depth=[np.ones((240, 320))] * 6))
    with pytest.raises(InputError, match="view_0"):
        scene.refine(folder)  # which holds no images
    with pytest.raises(UsageError, match="options"):
        scene.refine(options={"camera": "shared"})
    alone = dataclasses.replace(
        scene, **{name: getattr(scene, name)[:1] for name in (
            "images", "cam_from_world", "intrinsics", "z_depth", "depth_conf", "views")}
    )  # fmt: skip
    assert "one view" in alone.refine().refinement["sentence"]


@pytest.mark.parametrize(
    ("line", "meant"),
    [
        ("reconstruct --refine photos out", "reconstruct --refine cameras photos out"),
        ("reconstruct photos out --refine", "reconstruct photos out --refine cameras"),
        ("reconstruct --refine none photos out", "reconstruct --refine none photos out"),
        ("reconstruct --refine --to ply -- a b", "reconstruct --refine cameras --to ply -- a b"),
        ("refine out", "refine out"),
        ("export --refine x", "export --refine x"),
    ],
)
def test_an_option_may_stand_alone(line: str, meant: str) -> None:
    assert _with_values(line.split()) == meant.split()
