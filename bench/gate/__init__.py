"""`bench check`: a run held against stored results."""
