"""A sweep's pictures: history, importances, slices, parallel coordinates, and the front of two objectives."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from reports.html.svg import (
    BOTTOM,
    HEIGHT,
    LEFT,
    RIGHT,
    TOP,
    WIDTH,
    Axis,
    dot,
    frame,
    line,
    name_axis,
    number_axis,
    picture,
    text,
)

Trial = dict[str, Any]
_UP = (HEIGHT - BOTTOM, TOP + 6)
_ACROSS = (LEFT, WIDTH - RIGHT)


def pictures(record: dict[str, Any]) -> list[tuple[str, str]]:
    """(caption, SVG) of everything that the trials so far allow."""
    complete = [trial for trial in record["trials"] if trial["state"] == "complete"]
    if not complete:
        return []
    found = []
    for place, objective in enumerate(record["objectives"]):
        name = objective["column"]
        found.append((f"History of {name}: each trial, and the best so far", history(record, complete, place)))
        shares = record["importances"][place] if place < len(record.get("importances", [])) else {}
        if shares:
            found.append((f"What the spread of {name} depends on (fANOVA)", importances(shares)))
        found += [(f"{field} against {name}", cut(record, complete, field, place)) for field in record["space"]]
    if len(record["objectives"]) > 1:
        found.append(("The front: trials that none beats in everything", front(record, complete)))
    return found


def wide_pictures(record: dict[str, Any]) -> list[tuple[str, str]]:
    """(caption, SVG) of what needs the page's whole width."""
    complete = [trial for trial in record["trials"] if trial["state"] == "complete"]
    if not complete or len(record["space"]) < 2:
        return []
    return [("Parallel coordinates: a line a trial, the best coloured", parallel(record, complete))]


def _about(trial: Trial) -> str:
    params = ", ".join(f"{name} {value}" for name, value in trial["params"].items())
    return f"trial {trial['number']}: {', '.join(f'{value:.5g}' for value in trial['values'])} ({params})"


def history(record: dict[str, Any], complete: Sequence[Trial], place: int) -> str:
    """Values by trial number, with a line of the best so far."""
    objective = record["objectives"][place]
    better = max if objective["direction"] == "max" else min
    across = number_axis([trial["number"] for trial in record["trials"]], *_ACROSS)
    across = Axis(across.low, across.high, across.start, across.end, _whole(across))
    up = number_axis([trial["values"][place] for trial in complete], *_UP)
    steps: list[tuple[float, float]] = []
    best: float | None = None
    for trial in complete:
        value = trial["values"][place]
        x = across.at(trial["number"])
        steps += [] if best is None else [(x, up.at(best))]
        best = value if best is None else better(best, value)
        steps.append((x, up.at(best)))
    dots = [dot(across.at(t["number"]), up.at(t["values"][place]), _about(t), _is_best(record, t)) for t in complete]
    return picture([frame(across, up, ("trial", objective["column"])), line(steps, strong=True), *dots], "history")


def _whole(axis: Axis) -> tuple[tuple[float, str], ...]:
    places = sorted({round(value) for value, _ in axis.ticks})
    return tuple((float(place), str(place)) for place in places if axis.low <= place <= axis.high)


def _is_best(record: dict[str, Any], trial: Trial) -> bool:
    return trial["number"] in record["front"]


def importances(shares: dict[str, float]) -> str:
    """A bar a field, the longest first."""
    rows = sorted(shares.items(), key=lambda item: -item[1])
    height, left = 24 * len(rows) + 10, 170
    parts = []
    for place, (name, share) in enumerate(rows):
        y, width = 24 * place + 8, (WIDTH - left - 50) * share
        parts.append(text(left - 6, y + 11, name, "end", name=True))
        parts.append(f'<rect x="{left}" y="{y}" width="{max(width, 1):.1f}" height="14" fill="var(--accent)"/>')
        parts.append(text(left + width + 5, y + 11, f"{100 * share:.0f} %", "start"))
    return picture(parts, "importances", WIDTH, height)


def _field_axis(record: dict[str, Any], field: str, start: float, end: float) -> Axis:
    domain = record["space"][field]
    if "choices" in domain:
        return name_axis([str(value) for value in domain["choices"]], start, end)
    return number_axis([domain["low"], domain["high"]], start, end, bool(domain["log"]))


def _place(record: dict[str, Any], axis: Axis, field: str, trial: Trial) -> float:
    domain, value = record["space"][field], trial["params"][field]
    return axis.at(float(domain["choices"].index(value)) if "choices" in domain else value)


def cut(record: dict[str, Any], complete: Sequence[Trial], field: str, place: int) -> str:
    """Values of an objective by the values of one field."""
    across = _field_axis(record, field, *_ACROSS)
    up = number_axis([trial["values"][place] for trial in complete], *_UP)
    known = [trial for trial in complete if field in trial["params"]]
    dots = [
        dot(_place(record, across, field, t), up.at(t["values"][place]), _about(t), _is_best(record, t)) for t in known
    ]  # fmt: skip
    return picture([frame(across, up, (field, record["objectives"][place]["column"])), *dots], f"{field} by value")


def parallel(record: dict[str, Any], complete: Sequence[Trial]) -> str:
    """A line a trial through all fields and the first objective."""
    fields = list(record["space"])
    width = max(WIDTH, 110 * (len(fields) + 1))
    across = name_axis([*fields, record["objectives"][0]["column"]], 10, width - 10)
    axes = [_field_axis(record, field, HEIGHT - BOTTOM, TOP + 6) for field in fields]
    values = number_axis([trial["values"][0] for trial in complete], *_UP)
    parts = [_upright(across.at(i), axis, words) for i, (axis, (_, words)) in enumerate(
        zip([*axes, values], across.ticks, strict=True))]  # fmt: skip
    for trial in sorted(complete, key=lambda trial: _is_best(record, trial)):
        if set(fields) <= trial["params"].keys():
            ys = [_place(record, axis, field, trial) for axis, field in zip(axes, fields, strict=True)]
            ys.append(values.at(trial["values"][0]))
            places = [(across.at(i), y) for i, y in enumerate(ys)]
            parts.append(line(places, strong=_is_best(record, trial), about=_about(trial)))
    return picture(parts, "parallel coordinates", width)


def _upright(x: float, axis: Axis, name: str) -> str:
    rule = f'<line class="axis" x1="{x:.1f}" x2="{x:.1f}" y1="{TOP}" y2="{HEIGHT - BOTTOM}"/>'
    ticks = [text(x + 4, axis.at(value) + 4, words, "start") for value, words in axis.ticks]
    return "".join([rule, *ticks, text(x, HEIGHT - BOTTOM + 16, name, name=True)])


def front(record: dict[str, Any], complete: Sequence[Trial]) -> str:
    """The first two objectives against each other; the trials that none beats are joined."""
    first, second = (one["column"] for one in record["objectives"][:2])
    across = number_axis([trial["values"][1] for trial in complete], *_ACROSS)
    up = number_axis([trial["values"][0] for trial in complete], *_UP)
    best = sorted((t for t in complete if _is_best(record, t)), key=lambda t: t["values"][1])
    joined = line([(across.at(t["values"][1]), up.at(t["values"][0])) for t in best], strong=True)
    dots = [dot(across.at(t["values"][1]), up.at(t["values"][0]), _about(t), _is_best(record, t)) for t in complete]
    return picture([frame(across, up, (second, first)), joined, *dots], f"{first} against {second}")
