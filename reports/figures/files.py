"""Every figure of a report as SVG and PDF files for papers, drawn by matplotlib."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from bench.core.atomic import replacing
from bench.measure.columns import column
from reports.compare.ablation import METRICS, Ablation
from reports.compare.ranking import Ranking
from reports.content import Drawing
from reports.figures.curves import confusion, reliability, roc_and_pr
from reports.load.source import Source
from reports.tables.grid import Row

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Okabe and Ito's colours, which the colour-blind can tell apart; marks and dashes differ as well.
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#6b5bb5", "#4d4d4d")
MARKS = "os^Dv<>P"
DASHES = ("-", "--", ":", "-.")
FORMATS = ("svg", "pdf")
WIDTH, HEIGHT = 4.6, 3.2


def write_figures(drawn: Drawing, folder: Path) -> list[Path]:
    """Write each figure as SVG and PDF; the paths."""
    paths: list[Path] = []
    for name, draw in _figures(drawn):
        paths += _write(folder / _safe(name), draw)
    return paths


def _figures(drawn: Drawing) -> list[tuple[str, Callable[[Axes], None]]]:
    found: list[tuple[str, Callable[[Axes], None]]] = []
    for ranking in drawn.rankings:
        if ranking.rows:
            name = ranking.condition.name
            found.append((f"pareto {name}", lambda axes, r=ranking: pareto(axes, r)))  # type: ignore[misc]
            found.append((f"learning {name}", lambda axes, r=ranking: learning(axes, drawn.source, r)))  # type: ignore[misc]
            found += _of_best(drawn.source, name, ranking.rows[0])
    for study in drawn.ablations:
        found += [
            (f"ablation {metric} {study.name}", lambda axes, s=study, m=metric: forest(axes, s, m))  # type: ignore[misc]
            for metric in METRICS
        ]
    return found


def _of_best(source: Source, name: str, row: Row) -> list[tuple[str, Callable[[Axes], None]]]:
    kinds = (("confusion", confusion_plot), ("roc", roc_plot), ("pr", pr_plot), ("reliability", reliability_plot))
    return [
        (f"{kind} {name} {row.model}", lambda axes, draw=draw: draw(axes, source, row))  # type: ignore[misc]
        for kind, draw in kinds
        if source.predictions(row.done[0]) is not None
    ]


def _safe(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9_.-]+", "-", name).strip("-")


def _write(stem: Path, draw: Callable[[Axes], None]) -> list[Path]:
    from matplotlib.figure import Figure

    figure: Figure = Figure(figsize=(WIDTH, HEIGHT), layout="constrained")
    axes = figure.add_subplot()
    axes.spines[["top", "right"]].set_visible(False)
    draw(axes)
    return [_save(figure, stem.with_name(f"{stem.name}.{kind}"), kind) for kind in FORMATS]


def _save(figure: Figure, path: Path, kind: str) -> Path:
    from matplotlib import rc_context

    # Equal data make equal files: no date, and ids that do not depend on chance. Text stays text.
    settings: Any = {"svg.hashsalt": "deepmedix-bench", "svg.fonttype": "none", "pdf.fonttype": 42}
    date = {"Date": None} if kind == "svg" else {"CreationDate": None}
    with rc_context(settings), replacing(path) as temporary:
        figure.savefig(temporary, format=kind, metadata=date)
    return path


def _look(place: int) -> dict[str, Any]:
    return {"color": COLOURS[place % len(COLOURS)], "linestyle": DASHES[place // len(COLOURS) % len(DASHES)]}


def pareto(axes: Axes, ranking: Ranking, metric: str = "accuracy", cost: str = "macs_m") -> None:
    """A figure against a cost on a logarithmic axis, whiskers for 95 %.

    Args:
        axes: what is drawn on.
        ranking: models under one condition.
        metric, cost: names of result columns.
    """
    about, price = column(metric), column(cost)
    for place, row in enumerate(ranking.rows):
        found, paid = row.metric(metric), row.metric(cost)
        if found is None or paid is None or paid.mean <= 0:
            continue
        reach = [[max(0.0, found.mean - found.low)], [max(0.0, found.high - found.mean)]]
        errors = np.nan_to_num(np.array(reach)) * about.scale
        look: Any = {"color": COLOURS[place % len(COLOURS)], "marker": MARKS[place % len(MARKS)]}
        axes.errorbar(paid.mean, found.mean * about.scale, yerr=errors, label=row.model, linestyle="", **look)
    axes.set(xscale="log", xlabel=f"{price.title} ({price.unit})", ylabel=f"{about.title} ({about.unit})")
    axes.legend(fontsize=6, frameon=False)


def learning(axes: Axes, source: Source, ranking: Ranking) -> None:
    """Validation accuracy by epoch or round, the mean over seeds.

    Args:
        axes: what is drawn on.
        source: the run.
        ranking: models under one condition.
    """
    for place, row in enumerate(ranking.rows):
        histories = [source.history(cell) for cell in row.done]
        curves = [[entry.get("val_accuracy") for entry in history] for history in histories if history]
        steps = max((len(curve) for curve in curves), default=0)
        means = [_mean([c[i] for c in curves if i < len(c) and c[i] is not None]) for i in range(steps)]
        axes.plot(range(1, steps + 1), means, label=row.model, linewidth=1.2, **_look(place))
    axes.set(xlabel="epoch or round", ylabel="Validation accuracy (%)")
    axes.legend(fontsize=6, frameon=False)


def _mean(values: Sequence[float | None]) -> float:
    known = [value for value in values if value is not None]
    return 100 * sum(known) / len(known) if known else float("nan")


def confusion_plot(axes: Axes, source: Source, row: Row) -> None:
    """Counts of the row's first cell, shaded by the share of each true class.

    Args:
        axes: what is drawn on.
        source: the run.
        row: a model under one condition.
    """
    found = source.predictions(row.done[0])
    if found is None:
        return
    counts = confusion(found)
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    for (i, j), count in np.ndenumerate(counts):
        axes.text(
            j, i, str(count), ha="center", va="center", color="white" if shares[i, j] > 0.5 else "black", fontsize=7
        )
    ticks = range(len(found.classes))
    axes.set(xlabel="predicted", ylabel="true")
    axes.set_xticks(ticks, list(found.classes), rotation=30, fontsize=7)
    axes.set_yticks(ticks, list(found.classes), fontsize=7)


def roc_plot(axes: Axes, source: Source, row: Row) -> None:
    """ROC of every class against the rest, the row's first cell.

    Args:
        axes: what is drawn on.
        source: the run.
        row: a model under one condition.
    """
    _curves(axes, source, row, 0)
    axes.plot([0, 1], [0, 1], color="0.6", linestyle=":", linewidth=1)
    axes.set(xlabel="1 − specificity", ylabel="Recall")


def pr_plot(axes: Axes, source: Source, row: Row) -> None:
    """Precision and recall of every class against the rest, the row's first cell.

    Args:
        axes: what is drawn on.
        source: the run.
        row: a model under one condition.
    """
    _curves(axes, source, row, 1)
    axes.set(xlabel="Recall", ylabel="Precision")


def _curves(axes: Axes, source: Source, row: Row, which: int) -> None:
    found = source.predictions(row.done[0])
    if found is None:
        return
    for place, (name, pair) in enumerate(zip(found.classes, roc_and_pr(found), strict=True)):
        if pair is not None:
            axes.plot(pair[which].x, pair[which].y, label=name, linewidth=1.3, **_look(place))
    axes.legend(fontsize=6, frameon=False)


def reliability_plot(axes: Axes, source: Source, row: Row) -> None:
    """Accuracy against confidence, marks as large as their bins.

    Args:
        axes: what is drawn on.
        source: the run.
        row: a model under one condition.
    """
    found = source.predictions(row.done[0])
    if found is None:
        return
    bins = [entry for entry in reliability(found) if entry.images]
    sizes = [8 + 120 * entry.images / found.labels.size for entry in bins]
    axes.scatter([b.confidence for b in bins], [b.accuracy for b in bins], s=sizes, color=COLOURS[0])
    axes.plot([0, 1], [0, 1], color="0.6", linestyle=":", linewidth=1)
    axes.set(xlabel="Confidence", ylabel="Accuracy")


def forest(axes: Axes, study: Ablation, metric: str) -> None:
    """Variant minus full model with intervals, a colour a dataset; filled where the adjusted p is below 5 %.

    Args:
        axes: what is drawn on.
        study: the effects.
        metric: the column whose effects are drawn.
    """
    effects = study.of(metric)
    datasets = list(dict.fromkeys(effect.dataset for effect in effects))
    changes = list(dict.fromkeys(effect.change for effect in effects))
    for effect in effects:
        place = datasets.index(effect.dataset)
        height = changes.index(effect.change) + 0.7 * (place + 0.5) / len(datasets) - 0.35
        step, colour = effect.difference, COLOURS[place % len(COLOURS)]
        axes.plot([100 * step.low, 100 * step.high], [height, height], color=colour, linewidth=1)
        filled = colour if effect.adjusted < 0.05 else "white"
        label = effect.dataset if effect.change == changes[0] else None
        axes.plot(100 * step.value, height, MARKS[place % len(MARKS)], color=colour, mfc=filled, ms=4, label=label)
    axes.axvline(0, color="0.3", linewidth=0.8)
    axes.set_yticks(range(len(changes)), changes, fontsize=7)
    axes.invert_yaxis()
    axes.set(xlabel=f"Δ {column(metric).title} (percentage points)")
    axes.legend(fontsize=6, frameon=False)
