"""Kernels against plain operations: parity, time, registers."""
