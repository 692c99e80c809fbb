"""Questions to a whole run: what its choices would seem to gain, and what its datasets can tell apart."""
