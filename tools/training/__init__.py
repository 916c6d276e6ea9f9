"""Data for training the bundled model."""
