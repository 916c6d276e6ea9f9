"""Weights in another precision than their own are made once for a whole stream."""

from __future__ import annotations

import itertools

import pytest
import torch

from manyview.models.precision import ConvertedWeights
from manyview.models.run_options import RunOptions
from manyview.streaming.anchors import AnchorEngine, AnchorOptions
from manyview.streaming.recursive import RecursiveEngine
from tests.models.tiny import tiny_vggt

ANCHORS = AnchorOptions(accel="anchors:frames=2", start=2, beyond=None)


@pytest.mark.parametrize("kind", ["chunks", "anchors"])
@pytest.mark.parametrize("keep", [True, False])
def test_later_chunks_convert_no_weights(kind, keep, monkeypatch):
    made = []
    get = ConvertedWeights.get

    def counted(self, parameter, form, make):
        return get(self, parameter, form, lambda p: made.append(form) or make(p))

    monkeypatch.setattr(ConvertedWeights, "get", counted)
    model, run = tiny_vggt(), RunOptions(torch.bfloat16, keep_weights=keep)
    engine = RecursiveEngine(model, run=run) if kind == "chunks" else AnchorEngine(model, ANCHORS, run)
    images = torch.rand(6, 3, 28, 42)
    counts = [len(made)]
    for chunk in images.split(2):
        engine.push(chunk)
        counts.append(len(made))
    first, second, third = (after - before for before, after in itertools.pairwise(counts))
    if keep:
        assert first > 0 and third == 0
    else:  # a dense head converts its own once a chunk
        assert first == second == third > 0
