"""The paper beside a run of it: every printed value, ours, the difference, and what leakage is worth."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import bench
from bench.core.atomic import write_text
from reports.compare.ablation import tables as ablation_tables
from reports.content import Drawing
from reports.html.page import duration, render, text
from reports.load.source import Source
from reports.tables.grid import Row
from reports.tables.markup import Entry, Grid, grid, markdown
from reports.tables.paper import ours

PAGES = ("reproduction.md", "reproduction.html")
FULL_MODEL = "deepmedix"
_BY_IMAGE = "image"


def write_reproduction(drawn: Drawing, folder: Path) -> list[Path]:
    """Write `reproduction.md` and `reproduction.html` of a run into a folder."""
    source = drawn.source
    tables = [*drawn.paper, *_optional(leakage(drawn.rows))]
    tables += [each for study in drawn.ablations for each in ablation_tables(study)]
    facts = about(source)
    paths = [folder / name for name in PAGES]
    write_text(paths[0], _markdown(facts, tables))
    write_text(paths[1], _page(source, facts, tables))
    return paths


def leakage(table: Sequence[Row]) -> Grid | None:
    """The full model's accuracy by image beside a split that keeps groups whole; None where no dataset has both."""
    full = [row for row in table if row.model == FULL_MODEL and row.done]
    by_image = {(row.condition.dataset, row.condition.variant): row for row in full if row.condition.split == _BY_IMAGE}
    body: list[list[Entry | str]] = []
    for row in full:
        beside = by_image.get((row.condition.dataset, row.condition.variant))
        if row.condition.split != _BY_IMAGE and beside is not None:
            body.append(_leak(row, beside))
    if not body:
        return None
    head = ["Dataset", "Groups whole", "Accuracy", "By image", "Accuracy", "Points from leakage"]
    notes = (
        "The two splits test on different images, so no paired test is made; each accuracy has its own interval. What "
        "separates them is pictures of one patient or lesion, or copies of one picture, on both sides of the split.",
    )
    return grid("leakage", "What a split by image is worth", head, body, "llrlrr", notes)


def _leak(whole: Row, by_image: Row) -> list[Entry | str]:
    kept, mixed = whole.metric("accuracy"), by_image.metric("accuracy")
    step = "–" if kept is None or mixed is None else f"{100 * (mixed.mean - kept.mean):+.1f}".replace("-", "−")
    condition = whole.condition
    return [condition.dataset, condition.split, ours(whole, "accuracy"), _BY_IMAGE, ours(by_image, "accuracy"), step]


def about(source: Source) -> list[str]:
    """What a reader must know before the tables: the command, how far it came, the hours and the machine."""
    environment = source.environment
    seconds = sum(float((cell.result or {}).get("seconds", 0)) for cell in source.done)
    facts = [f"{len(source.done)} of {len(source.cells)} cells are done; they took {duration(seconds)} of computing."]
    if environment:
        memory, cores = environment.get("memory_gib"), environment.get("cores")
        facts.append(f"Machine: {environment.get('processor')}, {cores} cores, {memory} GiB of memory.")
    waiting = [cell for cell in source.cells if cell.status == "missing"]
    if waiting:
        facts.append(f"Not run yet: {', '.join(sorted({_name(cell.spec) for cell in waiting}))}.")
    failed = [cell for cell in source.cells if cell.status == "failed"]
    return facts + [f"Failed: {_name(cell.spec)}: {cell.problem.splitlines()[0]}" for cell in failed if cell.problem]


def _name(spec: dict[str, object]) -> str:
    return f"{spec['model']} on {spec['dataset']} ({spec['split']})"


def _optional(found: Grid | None) -> list[Grid]:
    return [] if found is None else [found]


def _markdown(facts: Sequence[str], tables: Sequence[Grid]) -> str:
    head = ["# The paper's tables, run", "", *(f"- {fact}" for fact in facts), ""]
    return "\n".join([*head, *(markdown(table) for table in tables)]) + "\n"


def _page(source: Source, facts: Sequence[str], tables: Sequence[Grid]) -> str:
    foot = f"Drawn by deepmedix-bench {bench.__version__}."
    return render(
        "reproduction.html", name=source.name, facts=facts, tables=tables, css=text("page.css"), foot=foot
    )  # fmt: skip
