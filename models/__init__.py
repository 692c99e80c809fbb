"""Models: backbones, heads, initial weights, and how a model is fitted."""
