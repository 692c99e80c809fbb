"""Between numpy and Flower's records; what a message weighs."""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np
from flwr.app import Array, ArrayRecord, ConfigRecord, Message, MetricRecord, RecordDict
from numpy.typing import NDArray

from bench.core.schema import DAMAGED, NUMBERS

Arrays = dict[str, NDArray[Any]]
ARRAYS, STATE, CONFIG, METRICS = "arrays", "state", "config", "metrics"


def to_array(values: NDArray[Any]) -> Array:
    """An array in Flower's form (the bytes that numpy.save writes) with one copy where numpy.save makes several."""
    data = b"".join((_header(values.dtype.str, values.shape), np.ascontiguousarray(values).data))
    return Array(dtype=str(values.dtype), shape=tuple(values.shape), stype="numpy.ndarray", data=data)


def from_array(array: Array) -> NDArray[Any]:
    """A read-only view of an array's bytes, without a copy.

    Raises:
        ValueError: when the bytes are not those of a plain numeric array (pickled objects are never loaded).
    """
    stream = io.BytesIO(array.data)
    try:
        version = np.lib.format.read_magic(stream)
        if version != (1, 0):
            raise ValueError(f"it is in numpy's format {version}; only (1, 0) is expected")
        shape, fortran, dtype = np.lib.format.read_array_header_1_0(stream)
        if dtype.kind not in NUMBERS or fortran:
            raise ValueError(f"it holds {dtype}; only plain numbers in C order are expected")
        values: NDArray[Any] = np.frombuffer(array.data, dtype, math.prod(shape), stream.tell()).reshape(shape)
    except DAMAGED as error:
        raise ValueError(f"an array came that cannot be read: {error}") from error
    return values


def to_record(arrays: Arrays) -> ArrayRecord:
    """Named arrays as a record."""
    record = ArrayRecord()
    for name, values in arrays.items():
        record[name] = to_array(values)
    return record


def from_record(record: ArrayRecord) -> Arrays:
    """A record as named read-only arrays."""
    return {name: from_array(array) for name, array in record.items()}


def arrays_of(content: RecordDict) -> Arrays:
    """Every array of a message's content by name; names are unique across its records."""
    return {name: values for record in content.array_records.values() for name, values in from_record(record).items()}


def metrics_of(content: RecordDict) -> dict[str, float]:
    """The content's single metrics."""
    record = content[METRICS]
    assert isinstance(record, MetricRecord)
    return {name: value for name, value in record.items() if isinstance(value, (int, float))}


def config_of(content: RecordDict) -> ConfigRecord:
    """The content's configuration."""
    record = content[CONFIG]
    assert isinstance(record, ConfigRecord)
    return record


def message_bytes(message: Message) -> int:
    """Bytes of a message's serialised records; 0 for an error. The transport's own framing (under 1 %) is not in it."""
    if not message.has_content():
        return 0
    content = message.content
    arrays = [array for record in content.array_records.values() for array in record.values()]
    others = [*content.config_records.values(), *content.metric_records.values()]
    return sum(len(array.data) for array in arrays) + sum(len(record.deflate()) for record in others)


def messages_bytes(messages: Sequence[Message]) -> int:
    """Bytes of several messages; a content that they share is serialised once and counted for each."""
    known: dict[int, int] = {}
    total = 0
    for message in messages:
        name = id(message.content)
        known[name] = known.get(name) or message_bytes(message)
        total += known[name]
    return total


@lru_cache(maxsize=64)
def _header(dtype: str, shape: tuple[int, ...]) -> bytes:
    stream = io.BytesIO()
    description = {"descr": dtype, "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(stream, description)
    return stream.getvalue()
