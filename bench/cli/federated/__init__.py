"""Commands of `bench fed` that have a file of their own."""
