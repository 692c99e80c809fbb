"""Federated algorithms: one class and one file each."""
