"""Initial weights: resolved before training, downloaded, checked, loaded."""
