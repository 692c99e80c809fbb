"""The paper's tables 1 to 4 in its own layout, with published, ours and difference for every metric."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from bench.measure.columns import column
from reports.tables.grid import Row
from reports.tables.markup import Entry, Grid, grid
from reports.tables.published import (
    COLUMNS,
    FLOPS_M,
    FOOTNOTES,
    PAPER_DATASETS,
    PAPER_MODELS,
    SOURCE,
    TRAIN_BATCH_MS,
    Published,
    compared,
)  # fmt: skip
from reports.tables.published import (
    rows as published_rows,
)

TITLES = {
    1: "Table 1: Quantitative results analysis of the proposed model",
    2: "Table 2: Comparison with the state of the art, brain (multi-class)",
    3: "Table 3: Comparison with other methods, brain (Br35H, binary)",
    4: "Table 4: Ablation",
}
_NAMES = {
    system: [model for model, name in [*PAPER_MODELS.items(), *((one.model, one.system) for one in compared())]
             if name == system]
    for system in [*PAPER_MODELS.values(), *(one.system for one in compared())]
}  # fmt: skip


def paper_tables(table: Sequence[Row]) -> list[Grid]:
    """Tables 1 to 4 and the efficiency paragraph; printed rows that were not run say so."""
    return [_table(number, table) for number in TITLES] + [efficiency(table)]


def _table(number: int, table: Sequence[Row]) -> Grid:
    printed = [row for row in published_rows() if row.table == number]
    metrics = tuple(COLUMNS.values()) if number in (1, 4) else ("accuracy",)
    with_protocol = number in (2, 3)
    head = ["System", "Dataset", *(["Its own publication"] if with_protocol else [])]
    texts = len(head)
    for name in metrics:
        head += [f"{_printed_title(name)}, paper", "ours", "Δ"]
    if number in (1, 4):
        head.append(column("roc_auc").title)
    body = [line for row in printed for line in _lines(row, metrics, table, number)]
    return grid(
        f"paper-{number}",
        TITLES[number],
        head,
        body,
        aligned="l" * texts + "r" * (len(head) - texts),
        notes=_notes(number),
    )


def _printed_title(name: str) -> str:
    return "ROC-AUC (hard)" if name == "roc_auc_hard" else column(name).title


def _lines(printed: Published, metrics: Sequence[str], table: Sequence[Row], number: int) -> list[list[Entry | str]]:
    """One line for each of our rows that answers to the printed one, or one that says "not run"."""
    models = _NAMES.get(printed.system, [])
    answers = [
        row for row in table if row.model in models and row.condition.dataset in PAPER_DATASETS.get(printed.dataset, ())
    ]
    order = PAPER_DATASETS[printed.dataset]
    answers.sort(key=lambda row: (models.index(row.model), order.index(row.condition.dataset)))
    if not answers:
        return [_line(printed, metrics, None, number)]
    return [_line(printed, metrics, row, number) for row in answers]


def _line(printed: Published, metrics: Sequence[str], row: Row | None, number: int) -> list[Entry | str]:
    dataset = Entry(printed.dataset, under=row.condition.dataset + _badges(row) if row else "")
    named = f"{row.model}: " if row and number in (2, 3) else ""
    under = f"{named}{reading(row)}" if row else _absent(printed)
    cells: list[Entry | str] = [Entry(printed.system, under=under), dataset]
    if number in (2, 3):
        cells.append(_own(printed, row.model if row else ""))
    for name in metrics:
        cells += _triple(printed.values.get(name), row, name)
    if number in (1, 4):
        cells.append(ours(row, "roc_auc"))
    return cells


def _own(printed: Published, model: str) -> Entry | str:
    """The publication's own value with its protocol: of one of our models, or of all of a system's."""
    found = [one for one in compared() if one.system == printed.system and model in ("", one.model)]
    if not found:
        return "–"
    return Entry("; ".join(one.own for one in found), under="; ".join(one.protocol for one in found))


def _absent(printed: Published) -> str:
    return "not run" if printed.system in _NAMES else "not a model of this registry"


def _badges(row: Row) -> str:
    return "".join(f" [{badge}]" for badge in row.badges)


def _triple(printed: float | None, row: Row | None, name: str) -> list[Entry | str]:
    measured = row.metric(name) if row else None
    paper = "–" if printed is None else f"{printed:g}" if printed == 66 else f"{printed:.2f}"
    if measured is None or printed is None:
        return [paper, ours(row, name), "–"]
    return [paper, ours(row, name), f"{100 * measured.mean - printed:+.1f}".replace("-", "−")]


def ours(row: Row | None, name: str) -> Entry:
    """A row's metric with its interval under it; why there is none otherwise. No row: it was not run."""
    measured = row.metric(name) if row else None
    if measured is None:
        return Entry("not run" if row is None else row.problem or "–")
    about = column(name)
    low, high = about.text(measured.low), about.text(measured.high)
    interval = "" if math.isnan(measured.low) else f"[{low}, {high}]{measured.mark}"
    return Entry(about.text(measured.mean), under=interval)


def reading(row: Row) -> str:
    """The reading that a row's metrics were made under: split, regime, tuning, weights, normalization, size, cells."""
    protocol: dict[str, Any] = row.cells[0].spec["protocol"]
    weights = str(protocol.get("weights", "?")).rsplit("/", 1)[-1]
    parts = [
        f"split {row.condition.split}",
        row.condition.regime,
        f"tuning {protocol.get('tuning', '?')}",
        f"weights {weights}",
        f"normalization {protocol.get('normalization', '?')}",
        f"{protocol.get('image_size', '?')} px",
        f"{row.count} cells",
    ]
    return ", ".join(parts)


def _notes(number: int) -> list[str]:
    notes = [f"Published: {SOURCE}, percent. Ours: mean [95 %] over seeds and folds; Δ in percentage points."]
    if number in (1, 4):
        notes += [FOOTNOTES["roc_auc"], FOOTNOTES["brain"], FOOTNOTES["ham"]]
    if number == 2:
        notes.append(FOOTNOTES["brain"])
    if number in (2, 3):
        notes += dict.fromkeys(doubt for one in compared() if one.foot == number for doubt in one.doubts)
    if number == 4:
        notes.append(FOOTNOTES["model1"])
    return notes


def efficiency(table: Sequence[Row]) -> Grid:
    """Section 4.4: 0.613 GFLOPs, and 200 ms a batch of 32 images while training."""
    body: list[list[Entry | str]] = []
    seen: set[tuple[Any, ...]] = set()
    for row in table:
        if row.model == "deepmedix" and row.done:
            body += _efficiency_lines(row, seen)
    if not body:
        body = [["not run", f"{FLOPS_M / 1000:.3f}", "–", "–", f"{TRAIN_BATCH_MS:.0f}", "–", "–"]]
    head = ["Measured at", "GFLOPs, paper", "ours", "Δ", "ms a training batch, paper", "ours", "on"]
    notes = (
        "Paper, section 4.4: batches of 32 on two T4 GPUs, 224 px. FLOPs grow with the square of the size, and a time "
        "is comparable only on the same device: equal settings are needed before a difference means anything.",
    )
    return grid("paper-efficiency", "Computational efficiency (section 4.4)", head, body, "lrrrrrl", notes)


def _efficiency_lines(row: Row, seen: set[tuple[Any, ...]]) -> list[list[Entry | str]]:
    lines: list[list[Entry | str]] = []
    for cell in row.done:
        result = cell.result or {}
        cost, timing, classes = result["cost"], result["timing"], len(result["data"]["classes"])
        size, batch = cost.get("image_size"), timing.get("batch_size")
        place = (size, batch, timing.get("device"))
        if place not in seen and isinstance(cost.get("flops_m"), (int, float)):
            seen.add(place)
            step = f"{100 * (cost['flops_m'] / FLOPS_M - 1):+.1f} %".replace("-", "−") if size == 224 else "other size"
            milliseconds = timing.get("train_batch_ms")
            lines.append(
                [
                    f"{size} px, {classes} classes, batch {batch}",
                    f"{FLOPS_M / 1000:.3f}",
                    f"{cost['flops_m'] / 1000:.3f}",
                    step,
                    f"{TRAIN_BATCH_MS:.0f}",
                    "–" if milliseconds is None else f"{milliseconds:.0f}",
                    str(timing.get("device", "–")),
                ]
            )
    return lines
