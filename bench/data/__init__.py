"""Datasets: where they come from, how they are read, split, audited and decoded once."""
