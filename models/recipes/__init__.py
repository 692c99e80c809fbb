"""Recipes: how a model is fitted where its data lie in one place."""
