"""Exact cameras after the forward pass: structure from motion on the original images, started and checked by
what the network predicted."""

from __future__ import annotations

import sys
import types

from .options import RefineOptions
from .refinement import refine

__all__ = ["RefineOptions", "refine"]


class _CallablePackage(types.ModuleType):
    """`manyview.refine(scene, ...)` is `manyview.refine.refinement.refine(scene, ...)`."""

    __call__ = staticmethod(refine)


sys.modules[__name__].__class__ = _CallablePackage
