from __future__ import annotations

import numpy as np
import pytest

from bench.core.config import Protocol
from bench.core.errors import UserError
from bench.data.phantom import datasets as phantoms
from bench.data.registry import load
from bench.data.splits import split
from bench.data.table import read_at


@pytest.mark.parametrize(("name", "classes"), [("phantom-brain", 3), ("phantom-skin", 7)])
@pytest.mark.parametrize("images", [30, 47, 240])
def test_as_many_images_as_asked_for_every_class_and_every_split(name, classes, images):
    table = load(name, Protocol(synthetic_images=images, image_size=32))
    assert len(table) == images
    assert len(table.classes) == classes
    assert min(table.counts().values()) >= 4
    assert table.synthetic
    for kind in ("grouped", "image"):
        made = split(table, kind, 0)
        assert set(table.labels[made.train].tolist()) == set(range(classes))


def test_the_same_pictures_every_time_at_any_size():
    first, second = phantoms.brain(60, 48), phantoms.brain(60, 48)
    assert np.array_equal(first.images.read(7), second.images.read(7))
    assert first.fingerprint() == phantoms.brain(60, 96).fingerprint()
    small, large = read_at(first.images, 7, 32), read_at(first.images, 7, 128)
    assert small.shape == (32, 32)
    assert large.shape == (128, 128)
    shrunk = large.reshape(32, 4, 32, 4).mean((1, 3))
    assert np.corrcoef(shrunk.ravel(), small.ravel())[0, 1] > 0.95


def test_brain_is_gray_and_skin_is_colour_and_imbalanced():
    assert phantoms.brain(30, 24).images.read(0).shape == (24, 24)
    skin = phantoms.skin(300, 24)
    assert skin.images.read(0).shape == (24, 24, 3)
    counts = sorted(skin.counts().values())
    assert counts[-1] > 5 * counts[0]


def test_pictures_of_one_patient_are_more_alike_than_those_of_two():
    table = phantoms.brain(90, 48)
    flat = np.stack([table.images.read(row).ravel() for row in range(len(table))]).astype(float)
    likeness = np.corrcoef(flat)
    one = table.groups[:, None] == table.groups[None, :]
    same_class = table.labels[:, None] == table.labels[None, :]
    off = ~np.eye(len(table), dtype=bool)
    assert likeness[one & off].mean() > likeness[~one & same_class].mean() + 0.03


def test_classes_can_be_learned_but_not_trivially():
    from sklearn.ensemble import RandomForestClassifier

    table = phantoms.brain(600, 24)
    pixels = np.stack([table.images.read(row).ravel() for row in range(len(table))])
    made = split(table, "grouped", 0)
    forest = RandomForestClassifier(150, random_state=0).fit(pixels[made.train], table.labels[made.train])
    held_out = np.concatenate([made.val, made.test])
    accuracy = forest.score(pixels[held_out], table.labels[held_out])
    assert 0.5 < accuracy < 0.97  # the most frequent class alone: 0.4


def test_too_few_images_are_refused():
    with pytest.raises(UserError, match="draws 30 images or more, not images=12"):
        phantoms.skin(12, 32)
