"""Explanations: where a model looks, drawn and measured."""
