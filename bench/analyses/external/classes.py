"""Another dataset's classes as a model's own."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from bench.core.errors import UserError
from bench.data.audit.class_names import correspondence
from bench.data.table import Kind, Table


def class_table(foreign: Table, own: tuple[str, ...], kind: Kind, given: Mapping[str, str]) -> dict[str, str | None]:
    """The model's class of each of another dataset's classes; None for one that the model has not.

    Args:
        own, kind: the model's class names, and the kind of the dataset that it was fitted on.
        given: what the user says, which goes before what the names say; "" for a class to leave out.

    Raises:
        UserError: a name that is no class, a class that may stand for several, or fewer than two classes left.
    """
    for name, meant in given.items():
        if name not in foreign.classes:
            raise UserError(
                f"external.classes: {foreign.name} has no class {name!r}; it has {', '.join(foreign.classes)}"
            )
        if meant and meant not in own:
            raise UserError(f"external.classes: the model has no class {meant!r}; it has {', '.join(own)}")
    by_name = correspondence((foreign.classes, own), (foreign.kind, kind))
    found: dict[str, str | None] = {}
    for name in foreign.classes:
        if name in given:
            found[name] = given[name] or None
        elif len(by_name[name]) > 1:
            raise UserError(
                f"{foreign.name}'s class {name!r} may be {' or '.join(by_name[name])}; "
                f'say which: --set \'external.classes={{"{name}": "{by_name[name][0]}"}}\''
            )
        else:
            found[name] = by_name[name][0] if by_name[name] else None
    if len({meant for meant in found.values() if meant}) < 2:
        raise UserError(
            f"fewer than two of the classes {', '.join(foreign.classes)} of {foreign.name} are classes of the model "
            f"({', '.join(own)}); name them with --set external.classes=..."
        )
    return found


def own_labels(foreign: Table, own: tuple[str, ...], meant: Mapping[str, str | None]) -> NDArray[np.int64]:
    """The model's class number of each image of another dataset [N], -1 where the model has no such class.

    Args:
        foreign: the other dataset.
        own: the model's classes.
        meant: the model's class by the other's; None: left out.
    """
    numbers = [-1 if (name := meant[each]) is None else own.index(name) for each in foreign.classes]
    labels: NDArray[np.int64] = np.array(numbers, dtype=np.int64)[foreign.labels]
    return labels
