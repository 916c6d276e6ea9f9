"""A run over ranks that are threads gives what one process gives: the result, its notes, what is refused."""

from __future__ import annotations

import shutil

import numpy as np
import pytest
import torch
from PIL import Image

from manyview.errors import DamagedInputError, OutputError, UsageError
from manyview.files.array_file import ArrayFile
from manyview.reconstruction.known.arrays import KnownViews
from manyview.reconstruction.result.load import load_reconstruction
from manyview.reconstruction.result.save import ARRAYS_NAME, HEADER_NAME
from manyview.reconstruction.run import chunked, shared
from manyview.reconstruction.run.engine import reconstruct, reconstruct_into
from manyview.reconstruction.run.options import ReconstructOptions
from manyview.reconstruction.run.prepare import prepare

from ..models.tiny import tiny_vggt
from ..models.tiny_pi3 import tiny_pi3x
from .threads import run

ARRAYS = ("images", "cam_from_world", "intrinsics", "z_depth", "depth_conf")
CHUNKS = "anchors:frames=3,sensitive=1x2,fewer=2"

pytestmark = pytest.mark.photos(5, 64, 48)


def over(ranks, photos, out, model=None, **options):
    """The result in the folder `out` that `ranks` threads make, and what each of them prepared."""
    model = model or tiny_vggt()

    readies = run(ranks, ranks, lambda everyone: into(everyone, photos, model, out, **options))
    assert sorted(path.name for path in out.iterdir()) == sorted([ARRAYS_NAME, HEADER_NAME])
    return load_reconstruction(out), readies


def into(everyone, photos, model, out, **options):
    ready = prepare(photos, model, ReconstructOptions(**options), ranks=everyone)
    scene = reconstruct_into(ready, model, out, ranks=everyone)
    assert (scene is None) == (everyone.split.rank > 0)
    return ready


def check_same(got, want, tolerance=1e-5):
    assert got.names == want.names
    for name in ARRAYS:
        a, b = (np.asarray(getattr(scene, name)) for scene in (got, want))
        assert a.dtype == b.dtype and a.shape == b.shape
        np.testing.assert_allclose(a, b, atol=tolerance * abs(b).max(), rtol=0, err_msg=name)


@pytest.mark.parametrize(("ranks", "accel"), [(2, "dense"), (3, "anchors:frames=2"), (7, "avggt")])
def test_the_folder_is_that_of_one_process(photos, tmp_path, ranks, accel):
    want = reconstruct(photos, tiny_vggt(), accel=accel)
    got, readies = over(ranks, photos, tmp_path / "out", accel=accel)
    check_same(got, want)
    assert got.views == want.views
    assert [len(ready.views.images) for ready in readies] == [
        5 // ranks + (r < 5 % ranks) for r in range(ranks)
    ]


def test_earlier_results_are_known_again_over_other_ranks(photos, tmp_path):
    model, out = tiny_vggt(), tmp_path / "out"
    together, readies = over(2, photos, out)
    alone = reconstruct(photos, model)
    alone.save(tmp_path / "alone")
    one = prepare(photos, model)
    assert one.made(out, together.settings) and one.made(tmp_path / "alone", alone.settings)
    for ready in readies:
        assert ready.made(out, together.settings) and ready.made(tmp_path / "alone", alone.settings)
        assert not ready.made(out, {**together.settings, "precision": "bf16"})
    Image.new("RGB", (64, 48)).save(photos / "2.png")
    assert not prepare(photos, model).made(out, together.settings)
    (other, _), _ = over(2, photos, tmp_path / "other")[::-1]
    assert not other.made(tmp_path / "alone", alone.settings) and not other.made(out, together.settings)


def test_what_headers_show_is_skipped_and_what_decoding_shows_ends_the_run(photos, tmp_path):
    (photos / "1.png").write_text("no image")
    (photos / "3.png").write_bytes(b"")
    want = reconstruct(photos, tiny_vggt())
    got, readies = over(2, photos, tmp_path / "out")
    check_same(got, want)
    assert [(s.path, s.reason) for s in readies[1].views.skipped] == [
        (s.path, s.reason) for s in prepare(photos, tiny_vggt()).views.skipped
    ]
    assert [note for note in got.notes if "skipped" in note] == [n for n in want.notes if "skipped" in n]
    data = (photos / "4.png").read_bytes()
    (photos / "4.png").write_bytes(data[: len(data) // 2])
    with pytest.raises(DamagedInputError, match=r"4\.png"):
        over(2, photos, tmp_path / "none")
    assert not (tmp_path / "none").exists()


def test_what_one_process_alone_does_is_refused(photos, tmp_path):
    model = tiny_vggt()
    for options in ({"compare": True}, {"sky": True}, {"accel": "fastvggt"}):
        with pytest.raises(UsageError):
            over(2, photos, tmp_path / "out", **options)
    ready = run(2, 2, lambda everyone: prepare(photos, model, ranks=everyone))[0]
    with pytest.raises(UsageError, match="reconstruct_into"):
        reconstruct(ready, model)
    with pytest.raises(UsageError, match="ranks"):
        reconstruct_into(ready, model, tmp_path / "out")
    with pytest.raises(OutputError, match="rank 1"):
        run(2, 2, lambda e: into(e, photos, model, tmp_path / "out" / str(e.split.rank)))
    other = shutil.copytree(photos, tmp_path / "other")
    (other / "4.png").unlink()
    with pytest.raises(UsageError, match="rank 1"):
        run(2, 2, lambda e: prepare([photos, other][e.split.rank], model, ranks=e))


def test_views_without_a_camera_are_left_out(photos, tmp_path, monkeypatch):
    found = shared.valid_views
    monkeypatch.setattr(
        shared, "valid_views", lambda result: found(result) & (torch.arange(result.layout.frames) > 0)
    )
    want = reconstruct(photos, tiny_vggt())
    got, _ = over(2, photos, tmp_path / "out")
    assert got.names == ("1.png", "2.png", "4.png")
    np.testing.assert_array_equal(got.images, want.images[[1, 2, 4]])
    assert any("left out" in note for note in got.notes)


@pytest.mark.parametrize("known", [False, True])
def test_masks_and_known_cameras(photos, tmp_path, known):
    """Masks that hide whole patches, and cameras in whose world and unit the result is."""
    masks = np.full((5, 48, 64), True)
    masks[3, :, 20:] = False
    poses = np.tile(np.eye(4), (5, 1, 1))
    poses[:, :3, 3] = np.random.default_rng(0).normal(size=(5, 3)) + 7
    options = {"masks": list(masks), **({"known": KnownViews(poses)} if known else {})}
    model = tiny_pi3x() if known else tiny_vggt()
    want = reconstruct(photos, model, **options)
    got, _ = over(3, photos, tmp_path / "out", model, **options)
    check_same(got, want)
    np.testing.assert_array_equal(got.masked, want.masked)
    assert got.settings["masks"] == want.settings["masks"] and got.settings.get("known") == want.settings.get(
        "known"
    )


def test_images_in_memory_and_a_video(photos, tmp_path):
    images = [Image.open(path) for path in sorted(photos.iterdir())]
    check_same(over(2, images, tmp_path / "images")[0], reconstruct(images, tiny_vggt()))
    pytest.importorskip("av")
    from ..reconstruction.test_video import _counting

    video = _counting(tmp_path / "five.mp4", 5)
    got, readies = over(2, video, tmp_path / "video")
    check_same(got, reconstruct(video, tiny_vggt()))
    assert [len(ready.views.images) for ready in readies] == [3, 2]


@pytest.mark.photos(8, 64, 48)
@pytest.mark.parametrize("ranks", [1, 3])
def test_chunks_go_on_over_another_number_of_ranks(photos, tmp_path, monkeypatch, ranks):
    out, model, options = tmp_path / "out", tiny_vggt(), {"accel": CHUNKS, "chunk": 1}
    want, plain, written = reconstruct(photos, model, **options), chunked._write, []

    def write(file, views, predictions, ready):
        if interrupt and len(views) == 1 and {4, 5, 6, 7} & set(written) and views[0] >= 4:
            raise KeyboardInterrupt
        written.extend(views if len(views) == 1 else [])
        return plain(file, views, predictions, ready)

    monkeypatch.setattr(chunked, "_write", write)
    interrupt = True
    with pytest.raises(KeyboardInterrupt):
        over(2, photos, out, model, **options)
    assert not (out / HEADER_NAME).exists()
    finished, interrupt = set(written), False
    written.clear()
    if ranks == 1:
        reconstruct_into(prepare(photos, model, ReconstructOptions(**options)), model, out)
    else:
        over(ranks, photos, out, model, **options)
    assert finished & {4, 5, 6, 7} and not finished & set(written)
    check_same(load_reconstruction(out), want)


def test_rows_of_several_writers_in_one_file(tmp_path):
    shapes, values = {"a": ("int64", (6, 2))}, np.arange(12).reshape(6, 2)
    with ArrayFile(tmp_path / "x", shapes, {}) as first, ArrayFile(tmp_path / "x", shapes, {}, 2) as other:
        for file, rows in ((other, range(2, 6)), (first, range(2))):
            file.write("a", rows, values[list(rows)])
        first.finish([1], [True])
        other.finish([3, 4], [False, True])
    with ArrayFile(tmp_path / "x", shapes, {}) as first, ArrayFile(tmp_path / "x", shapes, {}, 1) as other:
        assert first.done == other.done == {1: True, 3: False, 4: True}
        for file in (other, first):
            file.settle()
        np.testing.assert_array_equal(first.mapped()["a"], values)
        first.keep(np.array([True, True, True, False, True, True]))
        np.testing.assert_array_equal(first.mapped()["a"], values[[0, 1, 2, 4, 5]])
        assert [path.name for path in tmp_path.iterdir()] == [
            "x"
        ]  # rows that moved are nothing to go on with
    with ArrayFile(tmp_path / "x", shapes, {"another": "run"}) as file:
        assert not file.done
