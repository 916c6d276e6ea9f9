"""The reference implementation, published figures and targets of the benchmark."""
