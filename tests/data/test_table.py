from __future__ import annotations

import numpy as np
import pytest

from bench.core.errors import UserError


def test_rows_are_sorted_by_id_whatever_order_they_come_in(make_table):
    table = make_table([0, 1, 0], ids=["c", "a", "b"])
    assert table.ids.tolist() == ["a", "b", "c"]
    assert table.labels.tolist() == [1, 0, 0]
    assert table.images.checksum(0) == "picture-1"


def test_fingerprint_does_not_depend_on_row_order_but_on_everything_else(make_table):
    first = make_table([0, 1, 0], groups=["x", "y", "x"], ids=["a", "b", "c"])
    order = np.array([2, 0, 1])
    again = first.select(order)
    assert again.fingerprint() == first.fingerprint()
    changed = [
        make_table([0, 1, 1], groups=["x", "y", "x"], ids=["a", "b", "c"]),
        make_table([0, 1, 0], groups=["x", "y", "y"], ids=["a", "b", "c"]),
        make_table([0, 1, 0], groups=["x", "y", "x"], ids=["a", "b", "d"]),
        make_table([0, 1, 0], groups=["x", "y", "x"], ids=["a", "b", "c"], official=["train", "", ""]),
        make_table([0, 1, 0], groups=["x", "y", "x"], ids=["a", "b", "c"], sites=["s", "", ""]),
    ]
    assert len({first.fingerprint(), *(table.fingerprint() for table in changed)}) == 6


def test_select_keeps_pictures_with_their_rows(make_table):
    table = make_table([0, 1, 0, 1])
    chosen = table.select(np.array([3, 1]))
    assert chosen.ids.tolist() == ["i0001", "i0003"]
    assert np.array_equal(chosen.images.read(1), table.images.read(3))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"labels": [0, 1], "ids": ["a", "a"]}, "the id 'a' stands 2 times"),
        ({"labels": [0, 1], "sites": [""]}, "columns have different lengths"),
        ({"labels": [0, -1]}, "labels reach outside"),
    ],
)
def test_a_broken_table_is_one_clear_sentence(make_table, arguments, message):
    with pytest.raises(UserError, match=message):
        make_table(**arguments)


def test_counts_and_completeness(make_table):
    table = make_table([0, 1, 0], expected=5)
    assert table.counts() == {"a": 2, "b": 1}
    assert not table.complete
