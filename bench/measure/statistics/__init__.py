"""Statistics of comparisons: clustered, paired, pooled, across datasets."""
