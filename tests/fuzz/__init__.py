"""Whatever a stranger brings ends in our errors: mutated documents, damaged files, wrong types.

MANYVIEW_FUZZ_MINUTES=60 takes about that long instead of half a minute.
"""
