"""Dense cells of SpatialBench by preflight: what does not fit says how many frames would."""

from __future__ import annotations

from tools.results.spatialbench import SCENES, expected, verdict

from manyview.models.without_weights import load_or_describe
from manyview.reconstruction.plan.preflight import Preflight


def test_cells_fit_or_say_how_many_frames_would() -> None:
    model = load_or_describe("manyview-small", offline=True)
    source, frames = SCENES[0]
    fits = expected(model, "dense", source, frames, 80)
    assert isinstance(fits, Preflight) and fits.request.views == 2000
    assert (fits.request.width, fits.request.height) == (512, 512) and fits.peak_bytes < 0.9 * 80e9
    fewer = expected(model, "dense", source, frames, 5)
    assert isinstance(fewer, int) and 0 < fewer < frames
    again = expected(model, "dense", source, fewer, 5)
    assert isinstance(again, Preflight) and isinstance(expected(model, "dense", source, fewer + 1, 5), int)
    assert verdict([fits]) == "yes" and verdict([fewer]) == f"no: {fewer} frames of {source}"
