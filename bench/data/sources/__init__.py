"""One short file a distribution format: each turns a folder as its provider ships it into a table."""
