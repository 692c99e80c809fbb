"""From a source's rows to a table: missing files, labels at odds with folders, unusable pictures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from bench.core.errors import UserError
from bench.core.paths import shown
from bench.data.images.files import listed, usable
from bench.data.table import Kind, Table, text_column


@dataclass(frozen=True)
class Row:
    """One image as a source names it.

    Attributes:
        path: None where the distribution names an image whose file is not there.
        group: "" where unknown: the image is then a group of its own.
        mask: the file of the lesion's filled outline, where there is one.
        metadata: what else is known, by name ("age", "sex", "anatomy").
    """

    id: str
    path: Path | None
    label: str
    group: str = ""
    site: str = ""
    official: str = ""
    mask: Path | None = None
    metadata: Mapping[str, str] = field(default_factory=dict)


def assemble(
    name: str,
    rows: Sequence[Row],
    root: Path,
    *,
    classes: Sequence[str] | None = None,
    kind: Kind = "other",
    expected: int | None = None,
    notes: Sequence[str] = (),
    paper_name: str = "",
) -> Table:
    """Check a source's rows and make the table of those whose picture can be used.

    Args:
        name: of the dataset.
        rows: one an image.
        root: the dataset's folder; messages name files relative to it.
        classes: class names in order; by default those that occur, sorted.
        kind: what the pictures are of: brain, skin or other.
        expected: images that the publication counts; fewer mark the table as incomplete.
        notes: what a reader of the results must know.
        paper_name: what the paper calls the dataset; "" where it does not name it.

    Raises:
        UserError: no row, no file at all, too many unusable files, one id with two labels, or labels that
            disagree with the folders.
    """
    if not rows:
        raise UserError(f"dataset {name!r}: nothing to read in {root}; expected pictures in a folder a class, or a CSV")
    kept, repeats = _without_repeats(name, rows)
    present = [row for row in kept if row.path is not None]
    if not present:
        raise UserError(f"dataset {name!r}: none of its {len(kept)} images lies below {root}; put them there")
    _refuse_contradictions(name, present)
    images, positions, unusable = usable(name, [row.path for row in present if row.path], root)
    chosen = [present[position] for position in positions]
    names = _class_names(name, kept, classes)
    return Table(
        name,
        names,
        ids=text_column(row.id for row in chosen),
        labels=np.array([names.index(row.label) for row in chosen], dtype=np.int64),
        groups=text_column(row.group or f"image:{row.id}" for row in chosen),
        sites=text_column(row.site for row in chosen),
        official=text_column(row.official for row in chosen),
        images=images,
        kind=kind,
        expected=expected if expected is not None else len(kept),
        notes=(*notes, *repeats, *_missing(kept), *unusable),
        paper_name=paper_name,
        metadata=_metadata(chosen),
        masks=text_column(row.mask or "" for row in chosen) if any(row.mask for row in chosen) else None,
    )


def _class_names(name: str, rows: Sequence[Row], classes: Sequence[str] | None) -> tuple[str, ...]:
    labels = {row.label for row in rows}
    odd = sorted(label for label in labels if shown(label) != label)
    if odd:
        raise UserError(f"dataset {name!r}: the class name {shown(odd[0])} is not UTF-8 text; rename its folder")
    names = tuple(classes) if classes is not None else tuple(sorted(labels))
    odd = sorted(labels - set(names))
    if odd:
        raise UserError(f"dataset {name!r}: the class {odd[0]!r} is none of {', '.join(names)}")
    return names


def _metadata(rows: Sequence[Row]) -> dict[str, NDArray[np.str_]]:
    names = dict.fromkeys(name for row in rows for name in row.metadata)
    return {name: text_column(row.metadata.get(name, "") for row in rows) for name in names}


def _without_repeats(name: str, rows: Sequence[Row]) -> tuple[list[Row], tuple[str, ...]]:
    first: dict[str, Row] = {}
    for row in rows:
        before = first.setdefault(row.id, row)
        if before.label != row.label:
            raise UserError(
                f"dataset {name!r}: image {row.id!r} is both {before.label!r} and {row.label!r}; keep one row"
            )
    repeated = len(rows) - len(first)
    return list(first.values()), (f"{repeated} repeated rows of one image dropped",) if repeated else ()


def _missing(rows: Sequence[Row]) -> tuple[str, ...]:
    missing = [row.id for row in rows if row.path is None]
    if not missing:
        return ()
    return (f"incomplete: {len(rows) - len(missing)} of {len(rows)} images are here; missing {listed(missing, 5)}",)


def _refuse_contradictions(name: str, rows: Sequence[Row]) -> None:
    known = {row.label.casefold() for row in rows}
    wrong = [
        f"{row.id} is {row.label!r} in the manifest and lies in {row.path.parent.name!r}"
        for row in rows
        if row.path and row.path.parent.name.casefold() in known - {row.label.casefold()}
    ]
    if wrong:
        raise UserError(
            f"dataset {name!r}: {len(wrong)} labels differ between manifest and folder: {listed(wrong)}; "
            "correct the manifest or move the files"
        )
