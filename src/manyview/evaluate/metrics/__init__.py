"""Metrics: tensors or arrays in, numbers out."""
