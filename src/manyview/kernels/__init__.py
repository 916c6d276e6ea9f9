"""Fused kernels, each beside the plain operations that it must equal; knows no model and no method."""

from .choice import KERNELS, check_kernels, fused, launch_device, pick_kernels

__all__ = ["KERNELS", "check_kernels", "fused", "launch_device", "pick_kernels"]
