"""Results as tables, files and plots, and two results compared."""
