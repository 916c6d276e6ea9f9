"""Decoding, export and the images."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from manyview.bench import BenchOptions, run_bench
from manyview.bench.edges import decode_seconds, export_seconds, write_photos
from manyview.bench.images import bench_images
from manyview.bench.table import table

SMALL = BenchOptions("small-random", frames=(2,), size=(40, 32), device="cpu", runs=1)


def test_photos_are_jpegs_of_twice_the_size(tmp_path):
    from PIL import Image

    write_photos(bench_images("noise", 18, 32, 40, 0), tmp_path)
    names = sorted(path.name for path in tmp_path.iterdir())
    assert len(names) == 18
    with Image.open(tmp_path / names[17]) as photo:
        assert photo.format == "JPEG" and photo.size == (80, 64)


@pytest.mark.parametrize("height, width", [(32, 40), (40, 32), (40, 40)])
def test_photos_are_read_at_the_size_they_stand_for(height, width):
    # Reading raises if another size came out.
    assert 0 < decode_seconds(bench_images("noise", 2, height, width, 0), 8, repeats=1) < 10


def test_export_takes_time():
    assert 0 < export_seconds(bench_images("noise", 2, 32, 40, 0), 8) < 30


def test_edges_are_part_of_the_total_and_stages():
    report = run_bench(dataclasses.replace(SMALL, decode=True, export=True))
    (case,) = report.measurements
    stages = case.shown_stages()
    assert next(iter(stages)) == "decode" and list(stages)[-1] == "export"
    assert case.total_seconds == pytest.approx(case.decode_seconds + case.seconds + case.export_seconds)
    assert "total" in table(report).splitlines()[3] + table(report).splitlines()[4]


def test_images_are_seeded_distinct_and_shifted_where_they_repeat():
    drawn = bench_images("noise", 70, 8, 8, 3)
    assert drawn.shape == (70, 3, 8, 8) and torch.equal(drawn, bench_images("noise", 70, 8, 8, 3))
    assert len({tuple(image.flatten().tolist()) for image in drawn}) == 70
    assert torch.equal(drawn[64], drawn[0].roll(3, dims=-1))


def test_a_scene_has_smooth_parts_and_noise_has_none():
    def roughness(kind: str) -> float:
        images = bench_images(kind, 2, 32, 40, 0).float()
        return float((images[..., 1:] - images[..., :-1]).abs().mean())

    assert roughness("scene") < 0.3 * roughness("noise")
