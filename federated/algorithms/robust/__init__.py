"""Rules that hold against hostile clients; each sees single updates."""
