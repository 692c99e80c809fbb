"""Recipes of published systems that are more than one fit, one file each."""
