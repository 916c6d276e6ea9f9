"""Depth Anything 3 (arXiv 2511.10647): depth and cameras from any views, metric depth and sky from one."""
