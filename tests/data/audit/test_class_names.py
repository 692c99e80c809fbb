"""Which class names of two datasets mean the same."""

from __future__ import annotations

import pytest

from bench.data.audit.class_names import compare_labels, conflict_words, correspondence
from bench.data.sources.figshare import CLASSES as FIGSHARE
from bench.data.sources.isic import HAM_CLASSES, ISIC18_CLASSES, ISIC19_CLASSES, MELANOMA_CLASSES
from bench.data.sources.medmnistinfo import INFO

KAGGLE = ("glioma", "meningioma", "notumor", "pituitary")
DERMA = INFO["dermamnist"].classes


def test_the_papers_brain_sets_correspond() -> None:
    brain = ("brain", "brain")
    assert correspondence((KAGGLE, FIGSHARE), brain) == {
        "glioma": ["glioma"], "meningioma": ["meningioma"], "notumor": [], "pituitary": ["pituitary"],
    }  # fmt: skip
    assert correspondence((("no", "yes"), KAGGLE), brain) == {
        "no": ["notumor"], "yes": ["glioma", "meningioma", "pituitary"],
    }  # fmt: skip
    other = ("glioma_tumor", "meningioma_tumor", "no_tumor", "pituitary_tumor")
    assert correspondence((KAGGLE, other), brain) == dict(zip(KAGGLE, ([name] for name in other), strict=True))


def test_the_skin_sets_correspond() -> None:
    skin = ("skin", "skin")
    assert correspondence((ISIC18_CLASSES, HAM_CLASSES), skin) == {name: [name.lower()] for name in ISIC18_CLASSES}
    assert correspondence((HAM_CLASSES, ISIC19_CLASSES), skin)["akiec"] == ["AK", "SCC"]
    assert correspondence((HAM_CLASSES, MELANOMA_CLASSES), skin) == {
        name: ["melanoma" if name == "mel" else "benign"] for name in HAM_CLASSES
    }
    assert correspondence((DERMA, HAM_CLASSES), ("other", "skin")) == dict(
        zip(DERMA, ([name] for name in ("akiec", "bcc", "bkl", "df", "mel", "nv", "vasc")), strict=True)
    )


@pytest.mark.parametrize(
    ("left", "right", "classes", "kinds", "expected"),
    [
        ("MEL", "nv", (("MEL", "NV"), ("mel", "nv")), ("other", "other"), "differ"),
        ("no", "glioma", (("no", "yes"), KAGGLE), ("brain", "brain"), "differ"),
        ("no", "glioma", (("no", "yes"), KAGGLE), ("other", "brain"), "not comparable"),
        ("ill", "glioma", (("ill", "well"), KAGGLE), ("brain", "brain"), "not comparable"),
        ("well", "ill", (("ill", "well"), ("ill", "well", "unclear")), ("other", "other"), "differ"),
        ("well", "unclear", (("ill", "well"), ("ill", "well", "unclear")), ("other", "other"), "not comparable"),
        ("SCC", "akiec", (ISIC19_CLASSES, HAM_CLASSES), ("skin", "skin"), "agree"),
        ("UNK", "mel", ((*ISIC19_CLASSES, "UNK"), HAM_CLASSES), ("skin", "skin"), "not comparable"),
    ],
)
def test_two_labels(left: str, right: str, classes: object, kinds: object, expected: str) -> None:
    assert compare_labels(left, right, classes, kinds) == expected  # type: ignore[arg-type]


def test_the_words_say_how_much_was_compared() -> None:
    pairs = [{}] * 5
    assert conflict_words({"label_conflicts": None, "pairs_compared": 0, "pairs": pairs}) == "classes not comparable"
    assert conflict_words({"label_conflicts": 2, "pairs_compared": 5, "pairs": pairs}) == "2 labelled otherwise"
    told = conflict_words({"label_conflicts": 1, "pairs_compared": 3, "pairs": pairs})
    assert told == "1 of 3 comparable pairs labelled otherwise"
    assert conflict_words({"label_conflicts": 0, "pairs_compared": 0, "pairs": []}) == "0 labelled otherwise"
