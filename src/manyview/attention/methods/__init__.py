"""Methods that make global attention cheap, one a file: to add one, add its file here and its line below."""

METHODS = {
    "anchors": "anchors.Anchors",
    "avggt": "avggt.Avggt",
    "blocksparse": "blocksparse.BlockSparse",
    "fastvggt": "fastvggt.FastVggt",
    "flash": "flashvggt.FlashVggt",
    "gotohunt": "gotohunt.GoToHunt",
    "httm": "httm.Httm",
    "random": "random.Random",
    "spark3r": "spark3r.Spark3r",
}
"""Name in plan specs: file and class of its preset; just names, so that help texts do without PyTorch."""
