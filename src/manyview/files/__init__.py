"""Names, safe writing and array files: what every folder above may use to read and write."""
