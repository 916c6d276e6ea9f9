"""A page for browsers on the server of jobs: files in, points, cameras, depth and exports out."""
