"""What leaks in a dataset: duplicates, groups in two parts, labels at odds."""
