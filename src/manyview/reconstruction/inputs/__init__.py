"""Photos or a video in, network images out: `find_inputs` says which files, `read_views` decodes them."""
