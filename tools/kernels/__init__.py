"""Kernels against their plain twins: parity, time, registers."""
