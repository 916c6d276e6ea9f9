"""Tables of docs/results."""
