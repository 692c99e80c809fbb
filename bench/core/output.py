"""What commands print: JSON documents, and words around numbers."""

from __future__ import annotations

import json


def print_json(value: object) -> None:
    """One JSON document on standard output; what JSON has not, such as a path, as its text."""
    print(json.dumps(value, indent=1, ensure_ascii=False, default=str))


def counted(number: int, noun: str) -> str:
    """ "1 model", "2,000 models"."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"
