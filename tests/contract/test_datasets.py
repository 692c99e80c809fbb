"""What every registered dataset keeps to; those that need no file are read as well."""

from __future__ import annotations

import numpy as np
import pytest

from bench.core.config import Protocol
from bench.data.registry import DATASETS, load
from bench.data.splits import split
from bench.data.table import read_at

SIZE = 32
NAMES = DATASETS.names()
EMBEDDED = [name for name in NAMES if DATASETS.get(name).embedded]


@pytest.mark.parametrize("name", NAMES)
def test_a_dataset_says_what_it_is_and_what_brings_it(name: str) -> None:
    spec = DATASETS.get(name)
    assert spec.name == name
    assert spec.title
    assert spec.summary
    assert spec.licence
    assert spec.hint
    assert spec.embedded or spec.address.startswith("https://")
    assert not spec.same_files_as or spec.same_files_as in NAMES


@pytest.mark.parametrize("name", EMBEDDED)
def test_an_embedded_dataset_keeps_the_contract_of_a_table(name: str) -> None:
    table = load(name, Protocol(synthetic_images=60, image_size=SIZE))
    assert table.synthetic
    assert len(set(table.ids)) == len(table) == 60
    assert list(table.ids) == sorted(table.ids)
    assert set(table.labels) == set(range(len(table.classes)))
    image = read_at(table.images, 0, SIZE)
    assert image.dtype == np.uint8
    assert image.shape[:2] == (SIZE, SIZE)
    again = load(name, Protocol(synthetic_images=60, image_size=SIZE))
    assert again.fingerprint() == table.fingerprint()
    assert np.array_equal(read_at(again.images, 0, SIZE), image)


@pytest.mark.parametrize("name", EMBEDDED)
def test_a_grouped_split_takes_every_image_once_and_tears_no_group(name: str) -> None:
    table = load(name, Protocol(synthetic_images=60, image_size=SIZE))
    parts = split(table, "grouped", 0).parts()
    assert sorted(np.concatenate(list(parts.values()))) == list(range(60))
    groups = [set(table.groups[rows]) for rows in parts.values()]
    assert sum(len(found) for found in groups) == len(set(table.groups))
