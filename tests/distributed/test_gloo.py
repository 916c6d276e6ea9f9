"""Ranks that are processes: one launch of four, which share scenes over gloo, as do two and three of them."""

from __future__ import annotations

import dataclasses
import json
import multiprocessing
import os
import traceback
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.distributed as dist

from manyview.attention.plan import Plan
from manyview.cli.main import run
from manyview.distributed.environment import RankEnvironment
from manyview.distributed.join import joined
from manyview.distributed.mesh import MeshRanks
from manyview.models.run_options import RunOptions
from manyview.reconstruction.result.load import load_reconstruction
from manyview.reconstruction.result.save import HEADER_NAME
from manyview.reconstruction.run.engine import reconstruct_into
from manyview.reconstruction.run.options import ReconstructOptions
from manyview.reconstruction.run.prepare import prepare

from ..models.tiny import tiny_vggt

RANKS = 4
ARRAYS = ("images", "cam_from_world", "intrinsics", "z_depth", "depth_conf")
CHUNKED = ReconstructOptions(accel="anchors:frames=2,sensitive=1x2", chunk=1, device="cpu", precision="fp32")

pytestmark = [pytest.mark.slow, pytest.mark.photos(5, 64, 48)]


def _exchanges(group: MeshRanks) -> None:
    """The primitives, in every type that travels."""
    ranks, rank = group.split.ranks, group.split.rank
    whole = torch.arange(2 * 3 * ranks * 5).view(2, 3 * ranks, 5)
    for dtype in (torch.float32, torch.bfloat16, torch.int64, torch.uint8, torch.bool):
        x = (whole % 2).to(dtype) if dtype == torch.bool else whole.to(dtype)
        even = group.gather(x[:, 3 * rank : 3 * rank + 3], 1).wait()
        assert torch.equal(even, x)
        sizes, first = range(ranks), rank * (rank - 1) // 2  # of which one is none
        uneven = group.gather(x[0, first : first + rank], 0, sizes).wait()
        assert torch.equal(uneven, x[0, : sum(sizes)])
        shape = ((rank - 1) % ranks + 1, 5)  # each sends another number of rows
        before = group.to_next(x[0, : rank + 1], shape).wait()
        assert torch.equal(before, x[0, : shape[0]])
    for dtype in (torch.float32, torch.float64, torch.int64):
        assert group.sum(torch.full((3,), rank + 1, dtype=dtype)).tolist() == [ranks * (ranks + 1) / 2] * 3
    assert group.sizes(rank * 7) == tuple(7 * r for r in range(ranks))
    assert group.objects({"rank": rank, "text": "x" * rank}) == [
        {"rank": r, "text": "x" * r} for r in range(ranks)
    ]
    frames = torch.randn(2, ranks, 3, generator=torch.Generator().manual_seed(0))
    chosen = torch.tensor([[ranks - 1, 0], [0, 0]])
    order = torch.stack([torch.arange(ranks), torch.arange(ranks).roll(1)])
    own, rows = frames[:, rank : rank + 1], torch.arange(2)[:, None]
    assert torch.equal(group.take(own, chosen), frames[rows, chosen])
    assert torch.equal(group.place(own, order), frames[rows, order][:, rank : rank + 1])
    assert float(group.kth_value(own.flatten(), 2)) == float(frames.flatten().sort().values[2])


def _passes(everyone: MeshRanks) -> None:
    """Networks over uneven frames, with keys gathered and in a ring."""
    model, options = tiny_vggt(), RunOptions(frames_per_chunk=1, mlp_tokens_per_chunk=32)
    images = torch.rand(7, 3, 28, 42, generator=torch.Generator().manual_seed(0))
    for spec, ring in (("dense", False), ("dense", True), ("avggt", False), ("anchors:frames=2", False)):
        group = everyone.with_split(7, ring=ring)
        assert group is not None
        plan = Plan.parse(spec, model.config.depth)
        with torch.inference_mode():
            want = model(images, plan, options)
            own = slice(group.split.first, group.split.stop)
            got = model(images[own], plan, dataclasses.replace(options, ranks=group))
        for a, b in ((got.z_depth, want.z_depth), (got.cam_from_world, want.cam_from_world)):
            b = b[:, own]
            assert float((a - b).abs().max()) <= 1e-5 * float(b.abs().max()), spec


def _runs(everyone: MeshRanks, photos: Path, out: Path) -> None:
    """Results of two, three and four ranks; one in chunks; and one with ranks that have no views."""
    model, plain = tiny_vggt(), ReconstructOptions(device="cpu", precision="fp32")
    for ranks in (2, 3, 4):
        group = everyone.with_split(ranks)
        if group is not None:
            ready = prepare(photos, model, plain, ranks=group)
            scene = reconstruct_into(ready, model, out / str(ranks), ranks=group)
            assert (scene is None) == (group.split.rank > 0)
    ready = prepare(photos, model, CHUNKED, ranks=everyone)
    reconstruct_into(ready, model, out / "chunks", ranks=everyone)
    few = [photos / f"{i}.png" for i in range(2)]
    reconstruct_into(prepare(few, model, plain, ranks=everyone), model, out / "few", ranks=everyone)


def _fails(everyone: MeshRanks, photos: Path, out: Path) -> None:
    """Memory runs out on a rank while the others wait for what it has."""
    model = tiny_vggt()

    def no_memory(*_: object) -> None:
        raise MemoryError

    if everyone.split.rank == 1:
        model.camera_head.forward = no_memory
    ready = prepare(photos, model, ReconstructOptions(device="cpu", precision="fp32"), ranks=everyone)
    reconstruct_into(ready, model, out / "none", ranks=everyone)


def _rank(rank: int, port: int, photos: Path, out: Path) -> None:
    os.environ |= {"RANK": str(rank), "WORLD_SIZE": str(RANKS)}
    torch.set_num_threads(1)
    place = RankEnvironment(rank, RANKS, rank, RANKS, "test", 0, "127.0.0.1", port, has_store=True)
    told = {"passed": False}
    try:
        with joined(place, "cpu", 60) as everyone:
            _exchanges(everyone)
            for ranks in (2, 3):
                group = everyone.with_split(ranks)
                if group is not None:
                    _exchanges(group)
            _passes(everyone)
            _runs(everyone, photos, out)
            told["passed"] = True
            (out / f"{rank}.json").write_text(json.dumps(told))
            _fails(everyone, photos, out)
    except Exception as error:
        told |= {"error": str(error), "trace": traceback.format_exc()}
        (out / f"{rank}.json").write_text(json.dumps(told))
        os._exit(3)  # as whoever a lost connection leaves waiting


def test_processes_give_the_result_of_one_and_end_together(photos, tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    store = dist.TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    context = multiprocessing.get_context("forkserver")  # copies of one that has imported all
    context.set_forkserver_preload([__name__])
    processes = [context.Process(target=_rank, args=(r, store.port, photos, out)) for r in range(RANKS)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(120)
    left = [process.is_alive() for process in processes]
    for process in processes:
        process.kill()
        process.join()
    told = [json.loads((out / f"{r}.json").read_text()) for r in range(RANKS)]
    assert all(one["passed"] for one in told), [one.get("trace") for one in told]
    # Memory ran out on rank 1: all ended, and nothing of the result is there.
    assert not any(left) and all(process.exitcode for process in processes)
    assert "rank 1 of 4" in told[1]["error"] and "memory" in told[1]["error"]
    assert all(one.get("error", told[1]["error"]) == told[1]["error"] for one in told)
    assert not (out / "none" / HEADER_NAME).exists() and not list(tmp_path.glob("out/*/.manyview*"))

    model = tiny_vggt()
    options = ReconstructOptions(device="cpu", precision="fp32")
    want = reconstruct_into(prepare(photos, model, options), model, out / "1")
    chunks = reconstruct_into(prepare(photos, model, CHUNKED), model, out / "in chunks")
    few = reconstruct_into(prepare([photos / f"{i}.png" for i in range(2)], model, options), model, out / "0")
    pairs = [("2", want), ("3", want), ("4", want), ("chunks", chunks), ("few", few)]
    for name, one in pairs:
        got = load_reconstruction(out / name)
        assert got.views == one.views
        for array in ARRAYS:
            a, b = getattr(got, array), getattr(one, array)
            np.testing.assert_allclose(a, b, atol=1e-5 * abs(b).max(), rtol=0, err_msg=f"{name} {array}")
        headers = [json.loads((folder / HEADER_NAME).read_text()) for folder in (out / name, out / "1")]
        assert headers[0].keys() == headers[1].keys()
    assert {"peak of rank 0", "peak of rank 3"} <= set(load_reconstruction(out / "4").memory_bytes)
    assert run(["export", str(out / "3"), "--to", "ply", "npz"]) == 0
