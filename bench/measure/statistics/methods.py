"""How a stored result's intervals were taken, in the words that every table uses."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

TOO_NARROW = "images, too narrow"
METHODS = {
    "group": "jackknife over groups, Student's t",
    "unknown": "jackknife over images (no groups known), Student's t",
    "image": f"jackknife over {TOO_NARROW}, Student's t",
}

# Results that do not name their method: a bootstrap's percentiles, over images where groups were fewer than this.
_EARLIER_FEWEST = 10


def interval_method(result: Mapping[str, Any]) -> str:
    """How a stored result's intervals were taken, one of `METHODS`; those of earlier versions did not write it."""
    known = result.get("interval_method")
    if isinstance(known, str):
        return known
    groups = result["data"].get("groups_test")
    few = isinstance(groups, int) and groups < _EARLIER_FEWEST
    return f"percentile bootstrap of an earlier version over {TOO_NARROW if few else 'groups'}"
