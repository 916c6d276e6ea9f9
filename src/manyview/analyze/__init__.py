"""What global attention looks at, layer by layer: the analysis that the accelerations rest on."""
