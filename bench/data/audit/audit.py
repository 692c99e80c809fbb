"""The audit of a dataset: duplicates, groups in two parts, label conflicts, balance; kept for later runs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from bench.core.config import Protocol
from bench.core.errors import UserError
from bench.core.registry import near_matches
from bench.data.audit.class_names import compare_labels, correspondence
from bench.data.audit.duplicates import Match, Signatures, same_pictures, signatures
from bench.data.audit.groups import groups_in_two_parts, merged
from bench.data.audit.store import CLEAN, audit_path, note_table, store_audit, with_joined_groups
from bench.data.registry import load
from bench.data.splits import KINDS, Split, expand, split
from bench.data.table import Table

SCHEMA = 1
TINY = 32
Progress = Callable[[int, int], None]


def audit_dataset(
    name: str, kind: str = "all", seed: int = 0, against: Sequence[str] = (), progress: Progress | None = None
) -> dict[str, Any]:
    """Audit a dataset that is available, keep the audit, and judge its splits.

    Args:
        name: of a registered dataset.
        kind: a split, or "all" for every one that the dataset has.
        seed: the seed number by which splits are drawn.
        against: other datasets, in which the same pictures are looked for.
        progress: called with (images done, images in all).

    Returns:
        JSON values: `counts`, `pairs`, `balance`, `splits` by kind with their verdicts, `across` by dataset
        (`label_conflicts`: pairs whose labels contradict each other, None where no two labels can be compared).

    Raises:
        UserError: unknown dataset or split, or one that is not available.
    """
    table = load(name, Protocol(), joined=False)
    kinds = _kinds(table, kind)
    seen = signatures(table, progress)
    audit = examine(table, seen)
    # Cells may have been run before: on groups that nothing or only equal files had joined.
    before = [table, with_joined_groups(table)]
    audit["stored"] = str(store_audit(table, audit))
    for known in (*before, with_joined_groups(table)):
        note_table(known)
    audit["splits"] = {one: judge(table, one, seed) for one in kinds}
    audit["across"] = {other: _across(table, seen, load(other, Protocol(), joined=False)) for other in against}
    return audit


def examine(table: Table, seen: Signatures) -> dict[str, Any]:
    """What the pictures themselves say, whatever the split."""
    matches = same_pictures(seen)
    pairs = [_pair(table, table, match) for match in matches]
    joined = merged(table.groups, [(match.left, match.right) for match in matches])
    tiny = np.flatnonzero(seen.sides < TINY)
    return {
        "schema": SCHEMA,
        "dataset": table.name,
        "images": len(table),
        "expected": table.expected,
        "groups": len(np.unique(table.groups)),
        "synthetic": table.synthetic,
        "counts": {
            "exact_duplicates": sum(pair["kind"] == "exact" for pair in pairs),
            "sets_of_equal_images": _repeated(seen.pixels),
            "byte_identical_sets": _repeated(table.checksums),
            "equal_sets_across_official_parts": _across_parts(table, seen.pixels),
            "near_duplicate_pairs": sum(pair["kind"] == "near" for pair in pairs),
            "mirrored_or_turned_pairs": sum(pair["orientation"] != 0 for pair in pairs),
            "images_in_a_pair": len({row for match in matches for row in (match.left, match.right)}),
            "pairs_across_groups": sum(not pair["same_group"] for pair in pairs),
            "pairs_with_two_labels": sum(pair["left_label"] != pair["right_label"] for pair in pairs),
            "groups_after_joining": len(np.unique(joined)),
            "tiny_images": len(tiny),
        },
        "pairs": pairs,
        "tiny": table.ids[tiny].tolist(),
        "balance": {"classes": table.counts(), "sites": _by(table, table.sites)},
        "notes": list(table.notes),
    }


def _repeated(values: Any) -> int:
    return int((np.unique(values, return_counts=True)[1] > 1).sum()) if len(values) else 0


def _across_parts(table: Table, values: Any) -> int:
    """Sets of equal images with members in two official parts."""
    known = table.official != ""
    both = np.unique(np.stack([values[known], table.official[known]]), axis=1)[0] if known.any() else values[:0]
    return _repeated(both)


def _pair(left: Table, right: Table, match: Match) -> dict[str, Any]:
    a, b = match.left, match.right
    return {
        "left": str(left.ids[a]),
        "right": str(right.ids[b]),
        "kind": match.kind,
        "orientation": match.orientation,
        "agreement": round(match.agreement, 4),
        "residual": round(match.residual, 3),
        "left_label": left.classes[left.labels[a]],
        "right_label": right.classes[right.labels[b]],
        "same_group": left is right and bool(left.groups[a] == left.groups[b]),
    }


def _by(table: Table, column: Any, rows: Any = None) -> dict[str, dict[str, int]]:
    chosen = np.arange(len(table)) if rows is None else rows
    found: dict[str, dict[str, int]] = {}
    for value in np.unique(column[chosen]).tolist():
        labels = table.labels[chosen][column[chosen] == value]
        counts = np.bincount(labels, minlength=len(table.classes)).tolist()
        found[value or "unknown"] = dict(zip(table.classes, counts, strict=True))
    return found


def _kinds(table: Table, kind: str) -> list[str]:
    if kind != "all":
        if kind.partition(":")[0] not in KINDS:
            raise UserError(f"no split is called {kind!r}; {near_matches(kind, (*KINDS, 'all'))}")
        return expand(table, kind)
    official = expand(table, "official") if any(table.official) else []
    return ["grouped", "image", *official]


def judge(table: Table, kind: str, seed: int) -> dict[str, Any]:
    """One split of a table whose audit is stored: sizes, balance, what stands in two parts, and the verdict.

    Args:
        kind: of the split.
        seed: the seed number by which it is drawn.
    """
    joined = with_joined_groups(table)
    made = split(joined, kind, seed)
    leaking = groups_in_two_parts(joined, made)
    found = {name: len(rows) for name, rows in made.parts().items()}
    found |= {"groups_in_two_parts": leaking, "test_images_seen": _test_images_seen(joined, made)}
    balance = {name: _by(joined, np.full(len(joined), name), rows)[name] for name, rows in made.parts().items()}
    verdict = f"leaks: {leaking}" if leaking else CLEAN
    result: dict[str, Any] = {**found, "verdict": verdict, "balance": balance}
    if kind == "grouped":
        # What the dataset's own groups alone would have let through.
        result["leaks_without_the_audit"] = groups_in_two_parts(joined, split(table, kind, seed))
    return result


def _test_images_seen(table: Table, made: Split) -> int:
    fitted = np.concatenate([made.train, made.val])
    return int(np.isin(table.groups[made.test], table.groups[fitted]).sum())


def _across(table: Table, seen: Signatures, other: Table) -> dict[str, Any]:
    matches = same_pictures(seen, signatures(other))
    classes, kinds = (table.classes, other.classes), (table.kind, other.kind)
    pairs = [_pair(table, other, match) for match in matches]
    for pair in pairs:
        pair["labels"] = compare_labels(pair["left_label"], pair["right_label"], classes, kinds)
    compared = sum(pair["labels"] != "not comparable" for pair in pairs)
    return {
        "images": len({match.left for match in matches}),
        "exact_images": len({match.left for match in matches if match.kind == "exact"}),
        "other_images": len({match.right for match in matches}),
        "other_total": len(other),
        "classes": correspondence(classes, kinds),
        "pairs_compared": compared,
        "label_conflicts": sum(pair["labels"] == "differ" for pair in pairs) if compared or not pairs else None,
        "pairs": pairs,
    }


def write_html(audit: dict[str, Any], path: Path) -> Path:
    """Write the audit as one HTML page with the pairs as pictures. Returns the path."""
    from bench.core.atomic import write_text
    from bench.data.audit.page import page

    write_text(path, page(audit, load(audit["dataset"], Protocol(), joined=False)))
    return path


__all__ = ["audit_dataset", "audit_path", "examine", "judge", "write_html"]
