"""The commands: one file a group, heavy imports inside the functions."""
