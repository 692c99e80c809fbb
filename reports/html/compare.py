"""The page of `bench compare`: the tables, and the images on which the two models part."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import bench
from reports.compare.ranking import p_equals
from reports.compare.versus import Comparison, Discordant, Versus, table
from reports.html.page import render, text
from reports.html.pictures import pictures

SHOWN = 48


def compare_page(found: Comparison) -> str:
    """The comparison's HTML."""
    over = "" if math.isnan(found.wilcoxon) else p_equals(found.wilcoxon)
    return render(
        "compare.html",
        name=found.source.name,
        first=found.first,
        second=found.second,
        wilcoxon=over,
        problems=found.source.problems,
        entries=[_entry(entry, found) for entry in found.entries],
        css=text("page.css"),
        foot=f"Drawn by deepmedix-bench {bench.__version__}.",
    )


def _entry(entry: Versus, found: Comparison) -> dict[str, Any]:
    if entry.problem:
        return {"title": entry.condition.name, "problem": entry.problem}
    sides = []
    for name, other, right in ((found.first, found.second, True), (found.second, found.first, False)):
        mine = [image for image in entry.discordant if image.first_right == right]
        title = f"Only {name} is right ({len(mine)} images); taken for something else by {other}"
        sides.append((title, _images(entry, mine[:SHOWN]), max(0, len(mine) - SHOWN)))
    drawn = table(entry, found.first, found.second)
    return {"title": entry.condition.name, "problem": "", "table": drawn, "sides": sides}


def _images(entry: Versus, images: Sequence[Discordant]) -> list[dict[str, str]]:
    addresses = pictures(entry.first.done[0], [image.image for image in images])
    return [
        {
            "id": image.image,
            "label": image.label,
            "taken": image.second if image.first_right else image.first,
            "address": addresses.get(image.image, ""),
        }
        for image in images
    ]
