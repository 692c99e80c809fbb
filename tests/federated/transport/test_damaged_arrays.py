"""An array that comes over the wire is of plain numbers, of the length that it says, or a ValueError."""

from __future__ import annotations

import numpy as np
import pytest
from flwr.app import Array

from federated.transport.wire import from_array, to_array
from tests.fuzz.generators.nonsense import npy

HEADER = b"\x93NUMPY\x01\x00v\x00"


@pytest.mark.parametrize(
    "data",
    [
        b"", b"\x80\x04K\x01.", npy(np.zeros(3))[:-1], npy(np.array(["a"])), npy(np.array([{}], dtype=object)),
        npy(np.asfortranarray(np.zeros((2, 2)))), HEADER + b"{'descr': '<f4', 'shape': ((((".ljust(118),
        HEADER + b"{'descr': '<f4', 'fortran_order': False, 'shape': (-1,), }".ljust(118),
        HEADER + b"{'descr': '<f4', 'fortran_order': False, 'shape': (1000000000000000,), }".ljust(118),
    ],
)  # fmt: skip
def test_what_is_no_array_of_numbers_is_refused(data: bytes) -> None:
    with pytest.raises(ValueError, match="an array came that cannot be read"):
        from_array(Array(dtype="float32", shape=(3,), stype="numpy.ndarray", data=data))


def test_an_array_of_numbers_comes_through() -> None:
    assert from_array(to_array(np.arange(3.0))).tolist() == [0, 1, 2]
