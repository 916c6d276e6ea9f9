"""Merging of similar tokens: matching within blocks, means, outliers."""
