"""A check written down: Markdown, JUnit XML, GitHub annotations, JSON."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree

from bench.measure.columns import column

if TYPE_CHECKING:
    from bench.gate.verdict import Check, Outcome, Verdict

ORDER: tuple[Outcome, ...] = ("worse", "missing", "not comparable", "undecided", "better", "same")
_MARKS = {"worse": "✗", "missing": "✗", "not comparable": "?", "undecided": "?", "better": "↑", "same": "✓"}


def summary(check: Check) -> str:
    """One line: "58 same, 1 better, 1 worse"."""
    counts = [(outcome, check.count(outcome)) for outcome in reversed(ORDER)]
    return ", ".join(f"{count} {outcome}" for outcome, count in counts if count) or "nothing was compared"


def as_json(check: Check, strict: bool) -> dict[str, Any]:
    """Everything, with None for what is not a number."""
    return {
        "run": check.run, "baseline": check.baseline, "exit_code": check.exit_code(strict), "summary": summary(check),
        "counts": {outcome: check.count(outcome) for outcome in ORDER},
        "verdicts": [_plain(verdict) for verdict in check.verdicts], "notes": list(check.notes),
    }  # fmt: skip


def _plain(verdict: Verdict) -> dict[str, Any]:
    names = ("cell", "metric", "outcome", "base", "now", "low", "high", "p", "margin", "detectable", "why")
    values = {name: getattr(verdict, name) for name in names}
    return {name: None if isinstance(v, float) and not math.isfinite(v) else v for name, v in values.items()}


def markdown(check: Check) -> str:
    """A summary for a pull request: what is not the same first, the rest counted."""
    lines = [f"### Benchmark check: {summary(check)}", ""]
    shown = sorted((v for v in check.verdicts if v.outcome != "same"), key=lambda v: ORDER.index(v.outcome))
    if shown:
        lines += [
            "| | cell | metric | baseline | now | change (90 %) | p | why |",
            "|---|---|---|---:|---:|---:|---:|---|",
        ]
        lines += [_line(verdict) for verdict in shown]
    else:
        lines.append("Nothing got worse, nothing is missing.")
    lines += ["", f"Run `{check.run}` against `{check.baseline}`.", *(f"- {note}" for note in check.notes)]
    return "\n".join(lines) + "\n"


def _line(verdict: Verdict) -> str:
    change = "–"
    if verdict.low is not None and verdict.high is not None:
        change = f"{_shown(verdict.metric, verdict.low, True)} … {_shown(verdict.metric, verdict.high, True)}"
    p = "–" if not math.isfinite(verdict.p) else f"{verdict.p:.3f}"
    cells = [
        f"{_MARKS[verdict.outcome]} {verdict.outcome}", verdict.cell, verdict.metric,
        _shown(verdict.metric, verdict.base), _shown(verdict.metric, verdict.now), change, p, verdict.why,
    ]  # fmt: skip
    return "| " + " | ".join(cell.replace("|", "\\|").replace("\n", " ").replace("<", "&lt;") for cell in cells) + " |"


def _shown(metric: str, value: float | None, signed: bool = False) -> str:
    if value is None:
        return "–"
    sign = "+" if signed else ""
    about = column(metric)
    # One digit more than tables show, so that a change that was told can be seen; counts and losses are small numbers.
    digits = about.digits if about.family == "time" else 2 if about.scale == 100 else 4
    return f"{about.scale * value:{sign}.{digits}f}"


def text(verdict: Verdict) -> str:
    """One line for a terminal."""
    change = f"{_shown(verdict.metric, verdict.base)} → {_shown(verdict.metric, verdict.now)}"
    return f"{_MARKS[verdict.outcome]} {verdict.outcome}: {verdict.cell}: {verdict.metric} {change} ({verdict.why})"


def github_lines(check: Check) -> list[str]:
    """GitHub's workflow commands, one a metric that is worse, missing, not comparable or undecided."""
    kinds = {"worse": "error", "missing": "error", "not comparable": "warning", "undecided": "warning"}
    return [
        f"::{kinds[v.outcome]} title={_property(f'{v.metric} {v.outcome}')}::{_message(text(v))}"
        for v in check.verdicts
        if v.outcome in kinds
    ]


def _message(value: str) -> str:
    return value.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(value: str) -> str:
    return _message(value).replace(":", "%3A").replace(",", "%2C")


def junit(check: Check, strict: bool) -> str:
    """One test case a metric: worse and missing fail, not comparable is an error, undecided skipped (strict: error)."""
    suite = ElementTree.Element("testsuite", name="bench check", tests=str(len(check.verdicts)))
    counts = {"failure": 0, "skipped": 0, "error": 0}
    for verdict in check.verdicts:
        case = ElementTree.SubElement(suite, "testcase", classname=_clean(verdict.cell), name=verdict.metric)
        kind = _junit_kind(verdict, strict)
        if kind:
            counts[kind] += 1
            ElementTree.SubElement(case, kind, message=_clean(text(verdict)))
    suite.set("failures", str(counts["failure"]))
    suite.set("skipped", str(counts["skipped"]))
    suite.set("errors", str(counts["error"]))
    return ElementTree.tostring(suite, encoding="unicode", xml_declaration=True) + "\n"


def _junit_kind(verdict: Verdict, strict: bool) -> str:
    if verdict.outcome in ("worse", "missing"):
        return "failure"
    if verdict.outcome == "undecided":
        return "error" if strict else "skipped"
    return "error" if verdict.outcome == "not comparable" else ""


def _clean(value: str) -> str:
    """Text without the control characters that XML cannot hold."""
    return "".join(character if character >= " " or character in "\t\n" else "?" for character in value)
