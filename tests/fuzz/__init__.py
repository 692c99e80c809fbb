"""Malformed invocations of the command line, drawn from seeds."""
