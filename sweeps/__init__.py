"""Searches for a protocol: spaces, studies shared by processes, and what tuning brought."""
