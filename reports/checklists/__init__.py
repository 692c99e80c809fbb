"""Reporting checklists, filled in from a run as far as it knows."""
