"""File names, atomic writing, array files and PLY vertices."""
