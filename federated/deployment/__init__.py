"""A federation of real sites: consortium, keys, checks, Flower's programs."""
