"""Rigid transforms, cameras, projection and alignment of points."""
