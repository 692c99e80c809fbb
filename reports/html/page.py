"""The HTML report: one file, no network, no server."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import cache
from importlib.resources import files
from typing import Any

import bench
from bench.core.output import counted
from bench.measure.columns import column, names_of
from bench.measure.statistics.methods import METHODS, TOO_NARROW, interval_method
from reports.compare.ablation import Ablation
from reports.compare.ablation import tables as ablation_tables
from reports.compare.datasets import across_entry
from reports.compare.federated import gap_table
from reports.compare.ranking import Ranking, probability, with_interval
from reports.content import Drawing
from reports.html.answers import answer_sections
from reports.html.cards import dataset_cards, environment_fields, machine_notes, protocol_fields
from reports.html.partition import partitions
from reports.html.payload import class_recalls, payload, rounded
from reports.html.sweeps import sweep_views
from reports.load.source import Source
from reports.tables.grid import Row


def page(drawing: Drawing) -> str:
    """The report's HTML."""
    source = drawing.source
    data = payload(source, drawing.rows, drawing.rankings, drawing.references)
    data["ablations"] = [ablation_entry(found) for found in drawing.ablations]
    searched = sweep_views(source)
    answers = answer_sections(source, drawing.rows)
    link_twins(data["rows"], drawing)
    dealt = partitions([gap.row for gap in drawing.gaps])
    data["sweeps"] = [view.drawn for view in searched]
    data["partitions"] = [each.entry for each in dealt]
    data["across"] = [across_entry(name, found) for name, found in drawing.across]
    return render(
        "page.html",
        name=source.name,
        lead=lead(source),
        command=source.plan.get("command", ""),
        sections=sections(drawing, bool(searched), [(entry["anchor"], entry["title"]) for entry in answers]),
        tiles=tiles(source),
        failures=failures(source),
        total=len(source.cells),
        problems=source.problems,
        units=unit_notes(source),
        machines=machine_notes(source),
        bests=[best_entry(source, ranking) for ranking in drawing.rankings],
        ablations=[table for found in drawing.ablations for table in ablation_tables(found)],
        across=drawing.across,
        federated=gap_table(drawing.gaps),
        partitions=dealt,
        sweeps=searched,
        answers=answers,
        paper=drawing.paper,
        datasets=dataset_cards(source),
        environment=environment_fields(source.environment),
        protocol=protocol_fields(source),
        columns=[column(name) for name in names_of(level=3)],
        foot=f"Drawn by deepmedix-bench {bench.__version__} from the run's folder; it needs no network.",
        payload=script_json(data),
        css=text("page.css"),
        script=text("chart.js") + text("sweeps.js") + text("page.js"),
    )


def link_twins(entries: list[dict[str, Any]], drawing: Drawing) -> None:
    """Tell each federated row of the page the number of the row that is its twin."""
    numbers = {id(row): number for number, row in enumerate(drawing.rows)}
    for gap in drawing.gaps:
        if gap.twin is not None:
            entries[numbers[id(gap.row)]]["twin"] = numbers[id(gap.twin)]


@cache
def text(name: str) -> str:
    """A template file's text, safe inside its element."""
    from markupsafe import Markup

    return Markup(files("reports.html").joinpath("templates", name).read_text(encoding="utf-8"))


def render(template: str, **values: Any) -> str:
    """Fill a template; every value is escaped unless it is marked as safe."""
    from jinja2 import Environment, StrictUndefined

    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=False)
    return environment.from_string(str(text(template))).render(**values)


def script_json(value: object) -> str:
    """JSON that cannot end the script element that holds it."""
    from markupsafe import Markup

    written = json.dumps(value, separators=(",", ":"), allow_nan=False)
    for character in "<>&\u2028\u2029":
        written = written.replace(character, f"\\u{ord(character):04x}")
    return Markup(written)


def lead(source: Source) -> str:
    """What ran, in a sentence."""
    counts = [
        counted(len({cell.spec[noun] for cell in source.cells}), noun)
        for noun in ("model", "dataset", "regime", "seed")
    ]
    written = str(source.plan.get("written", "")).replace("T", " ").replace("+00:00", " UTC")
    return ", ".join([counted(len(source.cells), "cell"), *counts]) + (f"; planned {written}" if written else "")


def unit_notes(source: Source) -> list[str]:
    """The datasets whose intervals do not rest on groups, or are an earlier version's."""
    methods: dict[tuple[str, str], int] = {}
    for cell in source.done:
        result = cell.result or {}
        groups = result["data"].get("groups_test")
        methods[cell.spec["dataset"], interval_method(result)] = groups if isinstance(groups, int) else 0
    return [f"{name}: {note}" for (name, method), groups in methods.items() for note in _unit_notes(method, groups)]


def _unit_notes(method: str, groups: int) -> list[str]:
    notes = []
    if TOO_NARROW in method:
        notes.append(
            f"its test set has only {counted(groups, 'known group')}, so that intervals and tests are over single "
            f"{TOO_NARROW} and too sure of themselves where images of one patient are alike."
        )
    if method == METHODS["unknown"]:
        notes.append(
            "its images name no group, so that intervals and tests take each as independent; they are too narrow where "
            "several are of one patient."
        )
    if method not in METHODS.values():
        notes.append(f"its intervals are those of a {method}.")
    return notes


def sections(
    drawing: Drawing, searched: bool = False, answers: Sequence[tuple[str, str]] = ()
) -> list[tuple[str, str]]:
    """The page's sections, as they exist for this run.

    Args:
        drawing: what the page shows.
        searched: whether the run has sweeps.
        answers: (anchor, title) of each analysis that was asked.
    """
    found = [("summary", "Summary"), ("board-section", "Leaderboard"), ("pareto", "Quality and cost")]
    found += [("learning", "Learning"), ("classes", "By class"), ("closeup", "Close up")]
    found += [("ablation", "Ablation")] if drawing.ablations else []
    found += [("across", "Across datasets")] if drawing.across else []
    found += [("federated", "Federated")] if drawing.gaps else []
    found += [("sweeps", "Sweeps")] if searched else []
    return [*found, *answers, ("paper", "Paper"), ("data", "Data"), ("environment", "Environment")]


def tiles(source: Source) -> list[dict[str, Any]]:
    """The numbers at the top."""
    lost = len(source.cells) - len(source.done)
    seconds = sum(float((cell.result or {}).get("seconds", 0)) for cell in source.done)
    images = sum(int((cell.result or {})["data"].get("n_test") or 0) for cell in source.done)
    synthetic = sum(bool((cell.result or {})["data"].get("synthetic")) for cell in source.done)
    found: list[dict[str, Any]] = [
        {"value": f"{len(source.done)} of {len(source.cells)}", "label": "cells have a result", "bad": False},
        {"value": str(lost), "label": "failed or missing", "bad": lost > 0},
        {"value": f"{images:,}", "label": "test predictions", "bad": False},
        {"value": duration(seconds), "label": "computing", "bad": False},
    ]
    if synthetic:
        found.append({"value": str(synthetic), "label": "cells on synthetic images", "bad": False})
    return found


def duration(seconds: float) -> str:
    """Seconds as people say them."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def failures(source: Source) -> list[str]:
    """A line for each cell without a result."""
    lines = []
    for cell in source.cells:
        if cell.result is None:
            spec = cell.spec
            place = f"{spec['model']} · {spec['dataset']} · {spec['split']} · {spec['regime']} · seed {spec['seed']}"
            reason = cell.problem.strip().splitlines()[0] if cell.problem.strip() else "no reason was written"
            lines.append(f"{place}: {cell.status}, {reason}")
    return lines


def best_entry(source: Source, ranking: Ranking) -> dict[str, Any]:
    """A line of "best on each dataset"."""
    condition, best = ranking.condition, ranking.best
    under = " · ".join(part for part in (condition.split, condition.regime, condition.variant) if part)
    entry: dict[str, Any] = {"condition": condition, "under": under, "verdict": ranking.verdict, "badges": []}
    if best is None:
        return entry | dict.fromkeys(("model", "accuracy", "auc", "rarest", "chosen"), "–") | {"paper": ""}
    paper = best.published.get("accuracy")
    return entry | {
        "model": best.model,
        "badges": best.badges,
        "accuracy": with_interval(best, "accuracy"),
        "auc": with_interval(best, "roc_auc"),
        "paper": "" if paper is None else f"{paper:.2f}",
        "rarest": rarest_text(source, best),
        "chosen": ranking.chosen or "–",
    }


def rarest_text(source: Source, row: Row) -> str:
    """The class with the fewest test images, and the share of it that is found."""
    known = class_recalls(source, row)
    found = row.metric(f"recall_{known['rarest']}")
    return f"{known['rarest']}: {column('recall').text(found.mean)}" if found else "–"


def ablation_entry(found: Ablation) -> dict[str, Any]:
    """An ablation for the page."""
    return {
        "name": found.name,
        "problems": found.problems,
        "effects": [_effect_entry(effect) for effect in found.effects],
    }


def _effect_entry(effect: Any) -> dict[str, Any]:
    step = effect.difference
    plain = {name: getattr(effect, name) for name in ("variant", "dataset", "metric", "images", "change", "paper_name")}
    return {
        **plain, "value": rounded(step.value), "low": rounded(step.low), "high": rounded(step.high),
        "adjusted": rounded(effect.adjusted), "p_text": probability(effect.adjusted),
        "smallest": rounded(effect.smallest),
    }  # fmt: skip
