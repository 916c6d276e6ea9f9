"""Triton's interpreter on a CPU with a NumPy that is newer than it."""

from __future__ import annotations

import importlib.util
import os
from typing import Any

import numpy as np


def mend_interpreter() -> None:
    """Let the interpreter of Triton before 3.9 read loop bounds with NumPy 2.5; elsewhere nothing changes.

    It calls `int` on arrays of one element and one dimension, which NumPy 2.5 refuses.
    """
    if os.environ.get("TRITON_INTERPRET") != "1" or importlib.util.find_spec("triton") is None:
        return
    if np.lib.NumpyVersion(np.__version__) < "2.5.0":
        return
    from triton.runtime import interpreter

    patch = interpreter._patch_lang_tensor

    def patched(tensor: Any, scope: Any) -> None:
        patch(tensor, scope)
        scope.set_attr(tensor, "__index__", lambda self: int(self.handle.data.item()))

    interpreter._patch_lang_tensor = patched
