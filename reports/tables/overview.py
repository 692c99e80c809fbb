"""Models by datasets: mean, interval over seeds, and the paper's value beside ours."""

from __future__ import annotations

from collections.abc import Sequence

from bench.data.audit.cell import audit_sentences
from bench.measure.columns import column, names_of
from reports.compare.ranking import Ranking, with_interval
from reports.load.source import Source
from reports.tables.grid import Row
from reports.tables.markup import Entry, Grid, grid
from reports.tables.published import published_values
from reports.tables.reference import MAJORITY, NOTE

METRICS = names_of("quality", level=1)
BOLD = (
    "Bold: the best, and what the paired test (sign flips of groups, adjusted over all pairs of models, since the best "
    "was picked by the same images) does not tell apart from it."
)
INTERVAL = (
    "In brackets: 95 %, the wider of Student's t over seeds and folds (three or more) and the jackknife over groups. "
    "“Images, too narrow”: all test images belong to one group. Percent."
)


def tables(
    source: Source, rankings: Sequence[Ranking], rows: Sequence[Row], references: Sequence[Row] = ()
) -> list[Grid]:
    """A table a metric, split, regime and protocol; then what each model costs.

    Args:
        source: the run.
        rankings: one a condition.
        rows: one a model and condition.
        references: rows that need no image, at each table's foot.
    """
    kinds = dict.fromkeys((r.condition.split, r.condition.regime, r.condition.variant) for r in rankings)
    drawn = []
    for kind in kinds:
        members = [ranking for ranking in rankings if _kind(ranking) == kind]
        drawn += [_table(metric, kind, members, [*rows, *references]) for metric in METRICS]
    return [*drawn, cost_table(rows), *status_table(source)]


def _kind(ranking: Ranking) -> tuple[str, str, str]:
    return ranking.condition.split, ranking.condition.regime, ranking.condition.variant


def _table(metric: str, kind: tuple[str, str, str], members: Sequence[Ranking], rows: Sequence[Row]) -> Grid:
    wanted = [row for row in rows if (row.condition.split, row.condition.regime, row.condition.variant) == kind]
    models = list(dict.fromkeys(row.model for row in wanted))
    head = ["Model"]
    for ranking in members:
        badges = ", ".join(dict.fromkeys(badge for row in ranking.rows for badge in row.badges))
        head += [f"{ranking.condition.dataset}{f' ({badges})' if badges else ''}", "paper"]
    body = [[Entry(model), *_cells(metric, model, members, wanted)] for model in models]
    title = f"{column(metric).title}: " + ", ".join(part for part in kind if part)
    label = "-".join([metric.replace("_", "-"), *[part for part in kind[:2] if part]])
    audits = [(cell.spec, (cell.result or {})["data"]) for row in wanted for cell in row.done]
    notes = [
        INTERVAL,
        *([NOTE] if MAJORITY in models else []),
        *([BOLD, *audit_sentences(audits)] if metric == "accuracy" else []),
    ]
    return grid(label, title, head, body, notes=notes)


def _cells(metric: str, model: str, members: Sequence[Ranking], rows: Sequence[Row]) -> list[Entry]:
    by_condition = {row.condition: row for row in rows if row.model == model}
    found: list[Entry] = []
    for ranking in members:
        row = by_condition.get(ranking.condition)
        paper = published_values(model, ranking.condition.dataset).get(metric)
        found.append(Entry("not run") if row is None else _entry(metric, row, ranking))
        found.append(Entry("–" if paper is None else f"{paper:.2f}"))
    return found


def _entry(metric: str, row: Row, ranking: Ranking) -> Entry:
    if not row.done:
        return Entry(row.problem)
    count = f" ({row.count} cells)" if len(row.done) < len(row.cells) else ""
    bold = metric == "accuracy" and row.model in ranking.marked
    return Entry(with_interval(row, metric) + count, bold=bold)


COSTS = names_of("cost", "time", level=2)


def cost_table(rows: Sequence[Row]) -> Grid:
    """Parameters, operations and times of each model, at the sizes at which they were measured."""
    body: list[list[Entry | str]] = []
    seen: set[tuple[str, ...]] = set()
    for row in rows:
        measured = _measured(row)
        if row.done and (row.model, *measured) not in seen:
            seen.add((row.model, *measured))
            costs = [row.metric(name) for name in COSTS]
            texts = [column(name).text(found.mean if found else None) for name, found in zip(COSTS, costs, strict=True)]
            body.append([row.model, *measured, *texts])
    head = [
        "Model",
        "Size",
        "Batch",
        "Device",
        *(f"{column(name).title} {column(name).unit}".strip() for name in COSTS),
    ]
    return grid("cost", "Cost of a model", head, body, aligned="lrrl" + "r" * len(COSTS))


def _measured(row: Row) -> tuple[str, ...]:
    if not row.done:
        return ()
    result = row.done[0].result or {}
    timing, cost = result["timing"], result["cost"]
    return str(cost.get("image_size", "–")), str(timing.get("batch_size", "–")), str(timing.get("device", "–"))


def status_table(source: Source) -> list[Grid]:
    """The cells without a result, each with its reason; nothing when all have one."""
    lost = [cell for cell in source.cells if cell.result is None]
    body: list[list[Entry | str]] = [
        [cell.spec["model"], cell.spec["dataset"], cell.spec["split"], cell.spec["regime"], str(cell.spec["seed"]),
         cell.status, cell.problem.strip().splitlines()[0] if cell.problem.strip() else ""]
        for cell in lost
    ]  # fmt: skip
    head = ["Model", "Dataset", "Split", "Regime", "Seed", "Status", "Reason"]
    caption = f"Cells without a result ({len(lost)} of {len(source.cells)})"
    return [grid("missing", caption, head, body, aligned="l" * len(head))] if lost else []
