"""A run over ranks that are threads gives what one process gives: the result, its notes, what is refused."""

from __future__ import annotations

import numpy as np
import pytest

from manyview.reconstruction.result.load import load_reconstruction
from manyview.reconstruction.result.save import ARRAYS_NAME, HEADER_NAME
from manyview.reconstruction.run.engine import reconstruct, reconstruct_into
from manyview.reconstruction.run.options import ReconstructOptions
from manyview.reconstruction.run.prepare import prepare

from ..models.tiny import tiny_vggt
from .threads import run

ARRAYS = ("images", "cam_from_world", "intrinsics", "z_depth", "depth_conf")
CHUNKS = "anchors:frames=3,sensitive=1x2,fewer=2"

pytestmark = pytest.mark.photos(5, 64, 48)


def over(ranks, photos, out, model=None, together=None, **options):
    """The result in the folder `out` that `ranks` threads make, and what each of them prepared."""
    model = model or tiny_vggt()

    def one(everyone):
        ready = prepare(photos, model, ReconstructOptions(**options), ranks=everyone)
        scene = reconstruct_into(ready, model, out, ranks=everyone)
        assert (scene is None) == (everyone.split.rank > 0)
        return ready

    readies = run(ranks, ranks, one)
    assert sorted(path.name for path in out.iterdir()) == sorted([ARRAYS_NAME, HEADER_NAME])
    return load_reconstruction(out), readies


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
