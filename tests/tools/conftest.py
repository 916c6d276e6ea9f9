"""Fixtures of the command line's and the kernels' tests, here too."""

from tests.cli.conftest import command, weights
from tests.kernels.conftest import device, triton

__all__ = ["command", "device", "triton", "weights"]
