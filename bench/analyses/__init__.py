"""Analyses: questions put to a finished cell, one file a question."""
