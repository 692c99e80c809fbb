"""What is measured of a cell: quality from stored predictions, cost, timings, and the statistics of comparisons."""
