"""Comparisons: paired models, ranking, ablation, datasets, regimes."""
