"""Photos or a video in, network images out: `find_inputs` says which files, `read_views` decodes them."""

from manyview.reconstruction.inputs.find import find_inputs
from manyview.reconstruction.inputs.load import LoadedViews, SkippedFile, read_views
from manyview.reconstruction.inputs.options import DEFAULT_VIDEO_FRAMES, InputFile, InputOptions, InputSet

__all__ = [
    "DEFAULT_VIDEO_FRAMES",
    "InputFile",
    "InputOptions",
    "InputSet",
    "LoadedViews",
    "SkippedFile",
    "find_inputs",
    "read_views",
]
