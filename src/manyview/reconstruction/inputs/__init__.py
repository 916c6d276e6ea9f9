"""Images from files or memory to network images: `find_inputs` lists them, `read_views` decodes them."""
