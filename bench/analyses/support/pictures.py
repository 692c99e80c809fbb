"""Pictures among an answer's files."""

from __future__ import annotations

import io
from pathlib import Path

from PIL.Image import Image

from bench.core.atomic import write_bytes


def write_png(picture: Image, path: Path) -> Path:
    """Write a picture and return its path."""
    stored = io.BytesIO()
    picture.save(stored, "PNG", optimize=True)
    write_bytes(path, stored.getvalue())
    return path
