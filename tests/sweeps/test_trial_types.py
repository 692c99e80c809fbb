"""A trial whose values are of other types than a sweep writes is damage, told when the study is opened."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from optuna.trial import TrialState

from sweeps.study import _held_to_types


def trial(**changes: Any) -> Any:
    sound = {
        "number": 0, "state": TrialState.COMPLETE, "params": {"learning_rate": 0.1, "model.head": "linear"},
        "values": [0.5], "intermediate_values": {1: 0.4}, "user_attrs": {"seconds": 1.5, "cell": "abc"},
    }  # fmt: skip
    return SimpleNamespace(**{**sound, **changes})


def test_what_a_sweep_writes_is_taken() -> None:
    _held_to_types(0, trial())
    _held_to_types(0, trial(values=None, intermediate_values={}, user_attrs={}))


@pytest.mark.parametrize(
    ("changes", "message"),
    [({"number": b"\x00"}, "has the number"), ({"number": 3}, "has the number 3"),
     ({"params": {1.5: 2}}, "names a parameter"), ({"params": {"a": b"x"}}, "no plain value"),
     ({"values": [b"x"]}, "no number"), ({"intermediate_values": {1: b"x"}}, "no number"),
     ({"intermediate_values": {b"x": 1.0}}, "no number"), ({"user_attrs": {"seconds": b"x"}}, "took a time"),
     ({"user_attrs": {"cell": b"x"}}, "names no cell")],
)  # fmt: skip
def test_other_types_are_damage(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        _held_to_types(0, trial(**changes))
