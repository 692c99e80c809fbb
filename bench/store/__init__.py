"""A run's folder: its layout, its cells, their predictions, read and written in one place."""
