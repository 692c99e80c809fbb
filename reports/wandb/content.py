"""What a cell's W&B run shows: metrics, the model card, the predictions table, confusion and curves."""

from __future__ import annotations

import json
from typing import Any

from bench.measure.columns import column, names_of
from bench.measure.statistics.methods import interval_method
from bench.store.cells import StoredCell
from reports.load.source import Source
from reports.tables.grid import audit_of

TABLE_ROWS = 10_000


def send_result(run: Any, source: Source, cell: StoredCell) -> None:
    """Summary metrics, intervals, cost, timing, data, the model card, and what is drawn from the predictions.

    Args:
        run: W&B's own run.
        source: the run's folder.
        cell: a finished cell.
    """
    import wandb

    result = cell.result or {}
    bounds = {f"{name}_{side}": value for name, pair in result["intervals"].items() for side, value in _sides(pair)}
    summary = {**result["metrics"], **bounds, **result["cost"], **result["timing"], "seconds": result["seconds"]}
    summary["interval_method"] = interval_method(result)
    for name, value in summary.items():
        if isinstance(value, (int, float, str)):
            run.summary[name] = value
    run.config.update({"data": result["data"], "notes": result["notes"]}, allow_val_change=True)
    run.log({"model_card": wandb.Html(card_html(cell)), **_drawn(source, cell)})


def _sides(pair: list[Any]) -> list[tuple[str, Any]]:
    return [("low", pair[0]), ("high", pair[1])]


def _drawn(source: Source, cell: StoredCell) -> dict[str, Any]:
    """The predictions table, confusion and curves; empty when the predictions are lost."""
    import wandb

    plot: Any = wandb.plot
    table: Any = wandb.Table
    found = source.predictions(cell)
    if found is None:
        return {}
    names, take = list(found.classes), slice(0, TABLE_ROWS)
    rows = [
        [image, group, names[label], names[decision], *shares]
        for image, group, label, decision, shares in zip(
            found.ids[take], found.groups[take], found.labels[take], found.decisions[take],
            found.probabilities[take].tolist(), strict=True,
        )
    ]  # fmt: skip
    head = ["image_id", "group", "label", "predicted", *(f"p_{name}" for name in names)]
    labels, shares = found.labels.tolist(), found.probabilities
    return {
        "predictions": table(columns=head, data=rows),
        "confusion": plot.confusion_matrix(
            y_true=labels, preds=found.decisions.tolist(), class_names=names, title="Confusion"
        ),
        "roc": plot.roc_curve(labels, shares, labels=names, title="ROC, one class against the rest"),
        "pr": plot.pr_curve(labels, shares, labels=names, title="Precision and recall"),
    }


def card_html(cell: StoredCell) -> str:
    """A short model card: what it is, what it was trained on, how good, what to beware of."""
    from html import escape

    result, spec = cell.result or {}, cell.spec
    data, metrics = result["data"], result["metrics"]
    lines = [
        f"<h2>{escape(spec['model'])} on {escape(spec['dataset'])}</h2>",
        f"<p>{escape(spec['regime'])}, split {escape(spec['split'])}, seed {spec['seed']}; "
        f"{data.get('n_train')} training, {data.get('n_val')} validation, {data.get('n_test')} test images.</p>",
        f"<p>{', '.join(_shown(name, metrics.get(name)) for name in names_of('quality', level=1))}.</p>",
        f"<p>{'Synthetic images: says nothing of patients. ' if data.get('synthetic') else ''}"
        f"Audit: {escape(audit_of(cell).text)}. For research; no medical device.</p>",
        f"<pre>{escape(json.dumps(spec['protocol'], indent=1))}</pre>",
    ]
    return "\n".join(lines)


def _shown(name: str, value: float | None) -> str:
    about = column(name)
    return f"{about.title} {about.text(value)} {about.unit}".strip()
