"""Who holds what: partitions of a dataset over clients."""
