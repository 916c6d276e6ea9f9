"""The run on folders: order, left-out views, sizing of depth, and what the result says."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from manyview.datasets import read_posed_set
from manyview.errors import InputError, UsageError
from manyview.evaluate.report.posed import posed_json, posed_table, write_posed
from manyview.evaluate.runner import scene as runner_scene
from manyview.evaluate.runner.image_sets import evaluate_posed
from manyview.reconstruction.inputs.find import find_inputs
from manyview.reconstruction.inputs.options import InputOptions
from manyview.reconstruction.inputs.preprocess import plan_view
from manyview.reconstruction.inputs.views import depth_at_network_pixels
from manyview.reconstruction.run.options import ReconstructOptions
from tests.datasets.posed_fixtures import VIEWS, world_from_cam, write_plain, write_strecha
from tests.models.tiny import TINY, tiny_vggt


@pytest.fixture
def folders(tmp_path: Path) -> list[Path]:
    write_plain(tmp_path / "kitchen")
    write_strecha(tmp_path / "fountain")
    return [tmp_path / "kitchen", tmp_path / "fountain"]


def test_plans_and_baselines_side_by_side(folders: list[Path], tmp_path: Path) -> None:
    heard: list[tuple[int, int]] = []
    stored: list[int] = []
    result = evaluate_posed(
        tiny_vggt(),
        folders,
        ("dense", "frame"),
        views=4,
        progress=lambda done, total: heard.append((done, total)),
        on_scene=lambda so_far: stored.append(len(so_far.scenes)),
    )
    assert stored == [1, 2]
    # Two plans and two baselines of each folder.
    assert heard == [(done, 8) for done in range(1, 9)]
    kitchen, fountain = posed_json(result)["sets"]
    for one in (kitchen, fountain):
        assert [row["name"] for row in one["rows"]] == ["dense", "frame", "identity", "mean step"]
        assert one["set"]["views"] == 4 and len(one["set"]["images"]) == 4
    assert kitchen["set"]["depth_views"] == 4 and fountain["set"]["depth_views"] == 0
    dense, _, chance, mean = (row["numbers"] for row in kitchen["rows"])
    assert all(row["numbers"]["abs_rel"] is not None for row in kitchen["rows"])
    assert all(row["numbers"]["abs_rel"] is None for row in fountain["rows"])
    assert dense["confidence"]["absolute"]["oracle"] < 1
    assert chance["confidence"] is fountain["rows"][0]["numbers"]["confidence"] is None
    # Depth of view k is k + 1 metres everywhere, so a constant is off and no plan can be perfect.
    assert chance["abs_rel"] > 0.2
    # Both sets have the same true cameras, so image-independent baselines score the same.
    assert mean["auc_30"] == pytest.approx(fountain["rows"][3]["numbers"]["auc_30"])
    assert "| `frame` |" in posed_table(result) and "## kitchen" in posed_table(result)
    files = write_posed(result, tmp_path, "manyview evaluate posed X")
    data = json.loads(files[0].read_text())
    assert data["command"] in files[1].read_text() and data["settings"]["plans"] == ["dense", "frame"]
    assert data["sets"][0]["rows"][0]["numbers"]["confidence"]["relative"]["random"] > 0


def test_the_true_cameras_score_perfectly_whatever_order_and_gaps(
    folders: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A stand-in for the run that returns the truth of each image by its name, one view missing."""
    real, truth = runner_scene.reconstruct, world_from_cam()

    def honest(ready, model):
        scene = real(ready, model)
        cameras = np.stack([truth[int(Path(view.source).stem)] for view in scene.views])
        cameras = np.concatenate(
            [cameras[..., :3].swapaxes(1, 2), -cameras[..., :3].swapaxes(1, 2) @ cameras[..., 3:]], -1
        )
        depth = np.stack(
            [np.full_like(scene.z_depth[0], int(Path(view.source).stem) + 1) for view in scene.views]
        )
        kept = [0, 1, 3, 4] if len(scene) == VIEWS else slice(None)
        return dataclasses.replace(
            scene,
            images=scene.images[kept],
            cam_from_world=cameras[kept],
            intrinsics=scene.intrinsics[kept],
            z_depth=depth[kept],
            depth_conf=scene.depth_conf[kept],
            views=tuple(np.array(scene.views, dtype=object)[kept]),
        )

    monkeypatch.setattr(runner_scene, "reconstruct", honest)
    three = evaluate_posed(tiny_vggt(), folders, ("dense",), views=3).scenes[0].rows[0]
    assert three.figures["auc_3"] == 100.0 and three.figures["ate"] < 1e-6 and three.left_out == 0
    # The row of 65535 (its depth is a valid 65.5 m in this format) is wrong, all else right.
    assert three.figures["abs_rel"] < 0.2 and three.figures["delta_125"] > 85
    whole = evaluate_posed(tiny_vggt(), folders, ("dense",), views=VIEWS).scenes[0].rows[0]
    assert whole.left_out == 1 and whole.figures["auc_3"] == whole.figures["rra_5"] == pytest.approx(60.0)


@pytest.mark.parametrize("views", [2, 3, 4, 5, 9])
def test_views_are_those_that_reconstruct_takes_of_the_folder(views: int, tmp_path: Path) -> None:
    """`evaluate posed --views` and `reconstruct --max-frames` choose the same images, the last among them."""
    write_plain(tmp_path / "kitchen")
    posed = read_posed_set(tmp_path / "kitchen").spread(views)
    taken = find_inputs(posed.images[0].parent, InputOptions(max_frames=views))
    assert [path.name for path in posed.images] == [file.path.name for file in taken.files]
    assert posed.images[-1].name == f"{VIEWS - 1}.png"


def test_a_plan_that_is_dense_with_so_few_views_is_noted(folders: list[Path]) -> None:
    table = posed_table(evaluate_posed(tiny_vggt(), folders[:1], ("dense", "anchors"), 3, references=()))
    assert "Anchors: with 3 views it leaves nothing out and is dense attention." in table


@pytest.mark.parametrize("policy", ["fit", "crop", "pad", "square"])
def test_depth_follows_the_pixels(policy: str) -> None:
    """Each network pixel gets the depth of the source pixel under its centre; padding gets none."""
    transform = plan_view(64, 40, policy, 32, 8)
    columns = np.broadcast_to(np.arange(32.0), (20, 32))  # depth at half the size of the image
    found = depth_at_network_pixels(columns, transform)
    assert found.shape == (transform.network_height, transform.network_width)
    mask = transform.content_mask()
    assert np.isnan(found[~mask]).all() and not np.isnan(found[mask]).any()
    row = int(np.flatnonzero(mask.any(1))[0])
    expected = (np.arange(32) + 0.5 - transform.offset_x) / transform.scale_x * 0.5
    np.testing.assert_allclose(found[row], np.floor(expected), atol=1e-6)
    assert np.isnan(depth_at_network_pixels(None, transform)).all()


def test_what_cannot_be_is_refused_before_anything_runs(folders: list[Path], tmp_path: Path) -> None:
    model = tiny_vggt()
    for plans, views in ((("dense",), 1), ((), 4), (("dense", "no such plan"), 4)):
        with pytest.raises(UsageError):
            evaluate_posed(model, folders, plans, views)
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="empty"):
        evaluate_posed(model, [*folders, tmp_path / "empty"])
    options = ReconstructOptions(image_size=TINY.patch_size * 3)
    small = evaluate_posed(model, folders[:1], ("auto",), 2, options=options)
    (scene,) = small.scenes
    assert scene.facts["width"] == TINY.patch_size * 3 and scene.rows[0].accel == "dense"


def test_an_image_that_its_tag_rotates_is_refused(folders: list[Path]) -> None:
    tag = Image.Exif()
    tag[0x0112] = 6
    path = folders[1] / "images" / "0002.jpg"
    with Image.open(path) as picture:
        picture.load()
    picture.save(path, exif=tag)
    with pytest.raises(InputError, match=r"0002\.jpg"):
        evaluate_posed(tiny_vggt(), folders[1:], ("dense",))
