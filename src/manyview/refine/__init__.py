"""Exact cameras after the forward pass: structure from motion on the original images, started and checked by
what the network predicted."""
