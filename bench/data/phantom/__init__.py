"""Embedded synthetic datasets, drawn by code from a seed."""
