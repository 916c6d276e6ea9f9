"""Softmax attention itself: PyTorch kernels, extended terms, products on CPUs."""
