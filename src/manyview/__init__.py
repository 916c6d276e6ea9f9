"""ManyView: photos or a video in; cameras, depth maps and a point cloud out, in one forward pass."""

__version__ = "0.1.0"
