"""Bundle adjustment of the model in a folder, in a process of its own because COLMAP prints what it does."""

from __future__ import annotations

import sys


def run(folder: str) -> None:
    """Adjust the model in `folder` with COLMAP's defaults."""
    import pycolmap

    model = pycolmap.Reconstruction(folder)
    pycolmap.bundle_adjustment(model, pycolmap.BundleAdjustmentOptions(print_summary=False))
    model.update_point_3d_errors()
    model.write_binary(folder)


if __name__ == "__main__":
    run(sys.argv[1])
