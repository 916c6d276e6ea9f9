"""Compiled blocks are compiled once, not once per number of frames; counted without a C++ compiler."""

from __future__ import annotations

import multiprocessing

import torch
from torch._dynamo.testing import CompileCounter

from manyview.attention.softmax import bf16_cpu
from manyview.models.run_options import RunOptions
from manyview.train.model_setup import compile_blocks
from tests.models.tiny import tiny_vggt


def count_compilations() -> list[int]:
    """Frames compiled after each of six passes of different sizes."""
    torch.manual_seed(0)
    bf16_cpu.cpu_multiplies_bf16 = lambda: False  # as in the other tests
    model, plain, counter = tiny_vggt(), tiny_vggt(), CompileCounter()
    compile_blocks(model, backend=counter)
    options, counts = RunOptions(torch.bfloat16, heads=("camera",)), []
    for size in ((28, 42), (42, 56)):
        for frames in (3, 5, 8):
            images = torch.rand(frames, 3, *size)
            with torch.no_grad():
                found, wanted = (m(images, options=options).cam_from_world for m in (model, plain))
            torch.testing.assert_close(found, wanted, rtol=1e-3, atol=1e-3)
            counts.append(counter.frame_count)
    return counts


def test_no_compilation_per_number_of_frames_or_grid():
    with multiprocessing.get_context("spawn").Pool(1) as pool:  # where calls are not wrapped by checks
        counts = pool.apply(count_compilations)
    # One for all encoder blocks, one for all frame blocks, one for the MLPs of all global blocks.
    assert counts == [3] * 6
