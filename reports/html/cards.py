"""The facts of the datasets, the machine and the protocol, as the page's cards show them."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from typing import Any

from bench.core.output import counted
from bench.data.audit.cell import CellAudit
from bench.data.audit.store import CLEAN
from reports.load.source import Source
from reports.tables.grid import audit_of, badges


def dataset_cards(source: Source) -> list[dict[str, Any]]:
    """What a reader must know of each dataset."""
    cards = []
    for name in dict.fromkeys(cell.spec["dataset"] for cell in source.cells):
        cells = [cell for cell in source.done if cell.spec["dataset"] == name]
        if cells:
            found = [audit_of(cell) for cell in cells]
            told = audit_text(found)
            advice = next((each.advice for each in found if each.advice), "")
            audited = all(each.clean for each in found)
            clean = (
                told.replace(CLEAN, "audited: nothing found") if audited else f"{told}: {advice}" if advice else told
            )
            fields = data_fields((cells[0].result or {})["data"], told)
            cards.append({"name": name, "badges": badges(cells), "audited": audited, "clean": clean, "fields": fields})
    return cards


def audit_text(found: Sequence[CellAudit]) -> str:
    """What the audits of some cells say, with counts where they differ."""
    counted = Counter(each.text for each in found)
    if len(counted) == 1:
        return next(iter(counted))
    return ", ".join(f"{text} ({count} of {len(found)} cells)" for text, count in counted.items())


def data_fields(data: dict[str, Any], audit: str) -> list[tuple[str, str]]:
    """A dataset's facts, from one of its cells, and what the audit store says of them all."""
    expected = data.get("expected")
    found = [
        ("classes", ", ".join(str(name) for name in data["classes"])),
        ("images", f"{data.get('images', 0):,}" + (f" of {expected:,}" if expected else "")),
        ("train / val / test", " / ".join(f"{data.get(part, 0):,}" for part in ("n_train", "n_val", "n_test"))),
        ("groups in the test set", f"{data.get('groups_test', 0):,}"),
        ("audit", audit),
        ("fingerprint", str(data.get("fingerprint", ""))[:16]),
    ]
    return found + [("note", str(note)) for note in data.get("notes") or []]


def environment_fields(environment: dict[str, Any]) -> list[tuple[str, str]]:
    """The machine, flat."""
    packages = environment.get("packages") or {}
    plain = [(name, value) for name, value in environment.items() if name != "packages" and value not in (None, [], "")]
    versions = [(name, value) for name, value in packages.items() if value]
    return [
        (name, ", ".join(map(str, value)) if isinstance(value, list) else str(value))
        for name, value in plain + versions
    ]


def machine_notes(source: Source) -> list[str]:
    """What a reader must know before times are compared; nothing where all cells ran alone on one machine."""
    machines = [machine for cell in source.done if (machine := (cell.result or {}).get("machine"))]
    kinds: dict[tuple[Any, ...], str] = {}
    for machine in machines:
        gpus = ", ".join(machine["gpus"]) or f"{machine['cores']} cores"
        told = f"{machine['processor']}, {gpus}, {counted(machine['threads'], 'thread')}"
        kinds[(machine["environment"], told)] = told
    notes = []
    if len(kinds) > 1:
        named = "; ".join(sorted(set(kinds.values())))
        notes.append(
            f"The cells ran in {len(kinds)} environments ({named}): compare times of one environment only, and take "
            "differences in the last digits of a quality for what they may be."
        )
    beside = [machine["beside"] for machine in machines if machine["beside"] > 1]
    if beside:
        notes.append(
            f"{counted(len(beside), 'cell')} of {len(source.done)} shared the machine with up to "
            f"{counted(max(beside) - 1, 'other')}: their times are upper bounds."
        )
    return notes


def protocol_fields(source: Source) -> list[tuple[str, str]]:
    """The protocol's fields; all values where a run's cells differ."""
    seen: dict[str, dict[str, None]] = {}
    for cell in source.cells:
        for name, value in cell.spec["protocol"].items():
            seen.setdefault(name, {})[json.dumps(value, sort_keys=True).strip('"')] = None
    return [(name, " | ".join(values)) for name, values in seen.items()]
