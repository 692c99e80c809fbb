"""What travels: packed vectors, Flower's records, compression, secure aggregation."""
