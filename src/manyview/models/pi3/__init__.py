"""π³ (arXiv 2507.13347): cameras and points without a reference frame, equal in any order of the images."""
