"""Long input: chunks of any size give one result, on the disk, and what it needs is told before."""

from __future__ import annotations

import dataclasses
import errno
import shutil
import tempfile

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors import safe_open

from manyview.attention.plan import Plan
from manyview.errors import ManyViewError, MemoryLimitError, OutputError, UsageError
from manyview.files.array_file import ArrayFile
from manyview.models.vggt.camera_head import CameraHead
from manyview.reconstruction.inputs import spool
from manyview.reconstruction.inputs.find import find_inputs
from manyview.reconstruction.inputs.load import read_views
from manyview.reconstruction.inputs.options import InputOptions
from manyview.reconstruction.plan.chunked_plan import disk_bytes, long_peak_bytes, preflight_chunks
from manyview.reconstruction.plan.machine import Machine
from manyview.reconstruction.result import load as result_load
from manyview.reconstruction.result.load import load_reconstruction
from manyview.reconstruction.result.save import ARRAYS_NAME, HEADER_NAME
from manyview.reconstruction.run import chunked
from manyview.reconstruction.run.engine import reconstruct, reconstruct_into
from manyview.reconstruction.run.options import ReconstructOptions
from manyview.reconstruction.run.prepare import prepare
from tests.models.tiny import tiny_vggt
from tests.reconstruction.test_preflight import request

ACCEL = "anchors:frames=3,sensitive=1x2,fewer=2"
ARRAYS = ("images", "cam_from_world", "intrinsics", "z_depth", "depth_conf")

pytestmark = pytest.mark.photos(8, 64, 48)


@pytest.mark.parametrize("chunk", [1, 3, 100])
@pytest.mark.parametrize("accel", [ACCEL, "anchors:frames=3,choice=even"])
def test_chunks_are_the_whole_pass(photos, chunk, accel):
    model = tiny_vggt(torch.float64)
    want = reconstruct(photos, model, accel=accel, point_head=True)
    got = reconstruct(photos, model, accel=accel, point_head=True, chunk=chunk)
    assert got.settings == want.settings and got.names == want.names and got.notes == want.notes
    for name in (*ARRAYS, "head_points", "head_points_conf"):
        a, b = getattr(got, name), getattr(want, name)
        assert a.dtype == b.dtype
        np.testing.assert_allclose(a, b, rtol=2e-6, atol=1e-6, err_msg=name)
    np.testing.assert_array_equal(got.images, want.images)


def test_any_two_chunk_sizes_agree_to_the_last_bits_of_doubles(photos, monkeypatch):
    """Before they are rounded to what is stored."""
    written = []
    plain = chunked._write

    def remember(file, rows, answer, images):
        written[-1].update({row: answer.z_depth[0, i].clone() for i, row in enumerate(rows)})
        return plain(file, rows, answer, images)

    monkeypatch.setattr(chunked, "_write", remember)
    monkeypatch.setattr("manyview.reconstruction.run.prepare.pick_dtype", lambda *_: torch.float64)
    monkeypatch.setattr("manyview.reconstruction.run.settings.precision_name", lambda _: "fp64")
    monkeypatch.setattr("manyview.reconstruction.plan.preflight.precision_name", lambda _: "fp64")
    model = tiny_vggt(torch.float64)
    for chunk in (1, 2, 5):
        written.append({})
        reconstruct(photos, model, accel=ACCEL, chunk=chunk)
    for other in written[1:]:
        assert sorted(other) == list(range(8))
        for row, depth in other.items():
            torch.testing.assert_close(depth, written[0][row], rtol=1e-10, atol=0)


def test_the_folder_is_an_ordinary_result(photos, tmp_path, monkeypatch):
    model, out = tiny_vggt(), tmp_path / "out"
    ready = prepare(photos, model, ReconstructOptions(accel=ACCEL, chunk=3))
    scene = reconstruct_into(ready, model, out)
    assert sorted(p.name for p in out.iterdir()) == sorted([ARRAYS_NAME, HEADER_NAME])
    loaded = load_reconstruction(out)
    for name in ARRAYS:
        np.testing.assert_array_equal(getattr(loaded, name), getattr(scene, name))
    monkeypatch.setattr(result_load, "MAP_FROM_BYTES", 0)
    mapped = load_reconstruction(out)
    for name in ARRAYS:
        assert isinstance(getattr(mapped, name), np.memmap) and not isinstance(
            getattr(loaded, name), np.memmap
        )
        np.testing.assert_array_equal(getattr(mapped, name), getattr(scene, name))
    assert loaded.settings == scene.settings and loaded.timings_s == scene.timings_s
    assert {"read", "forward", "forward: anchors", "forward: others"} <= set(scene.timings_s)
    assert scene.memory_bytes["expected peak"] == ready.chosen.peak_bytes
    assert abs((out / ARRAYS_NAME).stat().st_size - ready.chosen.disk_bytes) < 2000
    with pytest.raises(OutputError, match="--overwrite"):
        reconstruct_into(ready, model, out)
    reconstruct_into(ready, model, out, overwrite=True)
    short = reconstruct_into(prepare(photos, model), model, tmp_path / "short")
    np.testing.assert_array_equal(load_reconstruction(tmp_path / "short").z_depth, short.z_depth)


def test_a_run_that_fails_leaves_nothing(photos, tmp_path, monkeypatch):
    model, out = tiny_vggt(), tmp_path / "out"
    ready = prepare(photos, model, ReconstructOptions(accel=ACCEL, chunk=3))
    monkeypatch.setattr(chunked, "valid_views", lambda _: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        reconstruct_into(ready, model, out)
    assert not out.exists()
    monkeypatch.undo()
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=1000))
    with pytest.raises(OutputError, match=r"out: .*1\.0 kB"):
        reconstruct_into(ready, model, out)


def test_an_interrupted_run_is_gone_on_with(photos, tmp_path, monkeypatch):
    model, out = tiny_vggt(), tmp_path / "out"
    options = ReconstructOptions(accel=ACCEL, chunk=2)
    want = reconstruct(photos, model, options)
    plain, attached = chunked._write, []

    def interrupted(file, rows, answer, images):
        attached.append(list(rows))
        if len(attached) == 3:
            raise KeyboardInterrupt
        good = plain(file, rows, answer, images)
        if len(attached) == 2:
            good[1] = False
        return good

    monkeypatch.setattr(chunked, "_write", interrupted)
    with pytest.raises(KeyboardInterrupt):
        reconstruct_into(prepare(photos, model, options), model, out)
    finished, dropped = attached[1], attached[1][1]
    assert not (out / HEADER_NAME).exists() and len(list(out.iterdir())) == 2
    # Another chunk or memory limit is the same run; another plan is not.
    attached.extend([[]] * 3)
    again = dataclasses.replace(options, chunk=1)
    got = reconstruct_into(prepare(photos, model, again), model, out)
    rest = [row for rows in attached[7:] for row in rows]
    assert not set(finished) & set(rest) and len(rest) == 8 - len(attached[0]) - 2
    assert sorted(p.name for p in out.iterdir()) == sorted([ARRAYS_NAME, HEADER_NAME])
    kept = [row for row in range(8) if row != dropped]
    np.testing.assert_allclose(got.z_depth, want.z_depth[kept], rtol=1e-5)
    np.testing.assert_array_equal(load_reconstruction(out).images, want.images[kept])
    other = tmp_path / "other"
    shutil.copytree(out, other)
    (other / ".manyview-partial-long-0123").write_text("of other settings")
    reconstruct_into(prepare(photos, model, again), model, other, overwrite=True)
    assert sorted(p.name for p in other.iterdir()) == sorted([ARRAYS_NAME, HEADER_NAME])


def test_what_another_run_left_is_not_taken_for_ours(tmp_path):
    shapes = {"a": ("uint8", (4, 2))}
    rows = np.arange(8, dtype=np.uint8).reshape(4, 2)
    with ArrayFile(tmp_path / "x", shapes, {"save_id": "1"}) as file:
        file.write("a", [2, 0], rows[[2, 0]])
        file.finish([2, 0], [True, False])
    with (tmp_path / "x.rows").open("a") as file:
        file.write("3")  # killed while it wrote
    with ArrayFile(tmp_path / "x", shapes, {"save_id": "1"}) as file:
        assert file.done == {2: True, 0: False}
        np.testing.assert_array_equal(file.mapped()["a"], rows * [[1], [0], [1], [0]])
    with ArrayFile(tmp_path / "x", shapes, {"save_id": "2"}) as file:
        assert not file.done and not file.mapped()["a"].any()


@pytest.mark.parametrize("chunk", [1, 2, 8])
def test_views_without_a_camera_are_left_out(photos, monkeypatch, chunk):
    model = tiny_vggt()
    plain = CameraHead.forward
    want = reconstruct(photos, model, accel=ACCEL, chunk=4)
    bad = [i for i in range(8) if i not in (0,)][2:4]

    def spoil(self, tokens, *args, **named):
        encodings = plain(self, tokens, *args, **named)
        for i, row in enumerate(rows.pop(0)):
            if row in bad:
                encodings[-1][:, i, 0] = float("nan")
        return encodings

    rows: list[list[int]] = []
    first = chunked.solve_anchors

    def solve(model, images, chosen, options, **named):
        others = [i for i in range(8) if i not in chosen.frames]
        rows.append(list(chosen.frames))
        rows.extend(others[i : i + chunk] for i in range(0, len(others), chunk))
        return first(model, images, chosen, options, **named)

    monkeypatch.setattr(chunked, "solve_anchors", solve)
    monkeypatch.setattr(CameraHead, "forward", spoil)
    got = reconstruct(photos, model, accel=ACCEL, chunk=chunk)
    good = [i for i in range(8) if i not in bad]
    assert got.names == tuple(f"{i}.png" for i in good) and "2 of 8 views left out" in got.notes[-1]
    for name in ARRAYS:
        np.testing.assert_allclose(getattr(got, name), getattr(want, name)[good], rtol=1e-4, atol=1e-5)


def test_less_memory_than_expected_means_smaller_chunks(photos, monkeypatch):
    model, sizes = tiny_vggt(), []
    want = reconstruct(photos, model, accel=ACCEL, chunk=5)
    plain = chunked.solve_anchors

    def scarce(*args, **named):
        solved, answer = plain(*args, **named)
        attach = type(solved).attach

        class Scarce:
            memory = solved.memory

            def attach(self, images):
                sizes.append(len(images))
                if len(images) > most:
                    raise torch.OutOfMemoryError("CUDA out of memory")
                return attach(solved, images)

        return Scarce(), answer

    monkeypatch.setattr(chunked, "solve_anchors", scarce)
    most = 1
    got = reconstruct(photos, model, accel=ACCEL, chunk=5)
    assert sizes == [5, 2, 1, 1, 1, 1, 1] and "1 views at a time" in got.notes[-1]
    np.testing.assert_allclose(got.z_depth, want.z_depth, rtol=1e-5)
    most = 0
    with pytest.raises(MemoryLimitError, match="3 anchors"):
        reconstruct(photos, model, accel=ACCEL, chunk=5)


def test_only_anchors_go_in_chunks_and_only_where_needed(photos):
    model = tiny_vggt()
    for accel in (None, "avggt", "anchors:cameras=all", "anchors:descriptors=2"):
        with pytest.raises(UsageError, match="--chunk"):
            prepare(photos, model, ReconstructOptions(accel=accel, chunk=3))
    with pytest.raises(UsageError, match="chunk"):
        ReconstructOptions(chunk=0)
    ready = prepare(photos, model, ReconstructOptions(accel=ACCEL))
    assert ready.chosen.chunk is None
    with pytest.raises(MemoryLimitError):
        prepare(photos, model, ReconstructOptions(memory_limit_gib=1e-6))


def test_what_does_not_fit_at_once_goes_in_chunks_by_itself():
    machine = Machine(torch.device("cpu"), "test", 2**30, 2**30)

    def sized(views: int):
        full = request(views)
        return dataclasses.replace(full, plan=Plan.parse("anchors:frames=2", full.config.depth))

    small, large = (preflight_chunks(sized(n), machine, 8, 1e12) for n in (1_000, 9_000))
    assert small.chunk and large.chunk and small.peak_bytes <= 0.9 * 2**30
    by_choice = 8_000 * small.request.config.dim * 16  # features, and the copies that choosing makes
    assert large.peak_bytes - small.peak_bytes == by_choice
    assert large.disk_bytes == disk_bytes(large.request) == 9_000 * (518 * 392 * 11 + 168)
    assert f"{large.chunk} at a time" in large.sentence() and "on disk" in large.sentence()
    assert preflight_chunks(sized(1_000), machine).chunk == 8
    least = Machine(torch.device("cpu"), "test", 2**20, 2**20)
    with pytest.raises(MemoryLimitError, match="anchors"):
        preflight_chunks(sized(1_000), least)
    with pytest.raises(MemoryLimitError, match="--chunk"):
        preflight_chunks(sized(1_000), machine, 900)
    peaks = [long_peak_bytes(sized(1_000), n, small.options) for n in (1, 8, 64)]
    assert peaks == sorted(peaks)


def test_pictures_on_the_disk_are_the_same_pictures(photos):
    Image.new("RGB", (48, 64), (9, 200, 30)).save(photos / "upright.png")
    found = find_inputs(photos, InputOptions())
    want, got = (read_views(found, "fit", 56, 14, on_disk=on) for on in (False, True))
    assert torch.equal(want.images, got.images) and want.records == got.records
    assert want.warnings == got.warnings
    got.release()
    assert torch.equal(want.images, got.images)


def test_a_full_temporary_folder_is_told(photos, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(spool, "_reserve", full)
    with pytest.raises(OutputError, match=tempfile.gettempdir()):
        prepare(photos, tiny_vggt(), ReconstructOptions(accel=ACCEL, chunk=3))


def test_an_array_file_is_a_safetensors_file(tmp_path):
    shapes = {"b": ("uint8", (5, 3)), "a": ("float64", (5, 2, 2))}
    a, b = np.random.default_rng(1).random((5, 2, 2)), np.arange(15, dtype=np.uint8).reshape(5, 3)
    with ArrayFile(tmp_path / "x", shapes, {"save_id": "7"}) as file:
        file.write("a", [4, 0, 1], a[[4, 0, 1]])
        file.write("b", range(5), b)
        file.write("a", [3], a[3:4])
        with pytest.raises(ValueError, match="1 rows"):
            file.write("a", [3], a)
        with pytest.raises(ValueError, match="row 5"):
            file.write("a", [5], a[:1])
        a[2] = 0
        assert all(np.array_equal(file.mapped()[n], x) for n, x in (("a", a), ("b", b)))
        good = np.array([True, False, True, True, False])
        file.finish(range(5), good.tolist())
        file.keep(good)
        mapped = file.mapped()
    assert not (tmp_path / "x.rows").exists()  # rows that moved are nothing to go on with
    with safe_open(tmp_path / "x", "numpy") as again:
        assert again.metadata() == {"save_id": "7"} and set(again.keys()) == {"a", "b"}
        for name, array in (("a", a), ("b", b)):
            np.testing.assert_array_equal(again.get_tensor(name), array[good])
            np.testing.assert_array_equal(mapped[name], array[good])


def test_no_view_with_a_camera_is_an_error(photos):
    model = tiny_vggt()
    model.depth_head.scratch.output_conv2[2].bias.data.fill_(200.0)
    with pytest.raises(ManyViewError, match="8 views"):
        reconstruct(photos, model, accel=ACCEL, chunk=3)
