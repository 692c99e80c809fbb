"""Heads: feature map -> logits."""
