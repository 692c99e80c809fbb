"""Whether two datasets' class names speak of the same findings: MEL and melanoma, no_tumor and notumor, yes and glioma.

A name is read as the set of diagnoses that it may stand for. Two labels of one picture agree where the sets meet and
contradict each other where they do not; a name that is not known here is compared only with itself.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from bench.data.table import Kind

Agreement = Literal["agree", "differ", "not comparable"]
Diagnoses = frozenset[str]

_TUMOURS = frozenset({"glioma", "meningioma", "pituitary tumour"})
# HAM10000's `akiec` holds Bowen's disease, which others count among the squamous cell carcinomas.
_AKIEC = frozenset({"actinic keratosis", "Bowen's disease"})
_SCC = frozenset({"squamous cell carcinoma", "Bowen's disease"})
_LESIONS = {
    "melanoma": frozenset({"melanoma"}),
    "nevus": frozenset({"nevus"}),
    "bcc": frozenset({"basal cell carcinoma"}),
    "bkl": frozenset({"benign keratosis"}),
    "df": frozenset({"dermatofibroma"}),
    "vasc": frozenset({"vascular lesion"}),
    "akiec": _AKIEC,
    "scc": _SCC,
}


def _named(meaning: Diagnoses, *names: str) -> dict[str, Diagnoses]:
    return dict.fromkeys(names, meaning)


# Names that mean the same whatever the dataset is of, as `plain` writes them.
_ANYWHERE: dict[str, Diagnoses] = {
    **_named(frozenset({"glioma"}), "glioma", "gliomatumor", "gliomatumour"),
    **_named(frozenset({"meningioma"}), "meningioma", "meningiomatumor", "meningiomatumour"),
    **_named(
        frozenset({"pituitary tumour"}), "pituitary", "pituitarytumor", "pituitarytumour", "pituitaryadenoma"
    ),
    **_named(frozenset({"no tumour"}), "notumor", "notumour"),
    **_named(_LESIONS["melanoma"], "melanoma"),
    **_named(_LESIONS["nevus"], "nevus", "naevus", "nevi", "melanocyticnevus", "melanocyticnevi"),
    **_named(_LESIONS["bcc"], "basalcellcarcinoma"),
    **_named(_LESIONS["bkl"], "benignkeratosis", "benignkeratosislikelesions", "seborrheickeratosis"),
    **_named(_LESIONS["df"], "dermatofibroma"),
    **_named(_LESIONS["vasc"], "vascularlesion", "vascularlesions"),
    **_named(_AKIEC, "actinickeratosesandintraepithelialcarcinoma"),
    **_named(frozenset({"actinic keratosis"}), "actinickeratosis", "actinickeratoses"),
    **_named(_SCC, "squamouscellcarcinoma"),
}  # fmt: skip
# Words and abbreviations that mean this only in a dataset of the kind.
_IN_KIND: dict[str, dict[str, Diagnoses]] = {
    "brain": {
        **_named(frozenset({"no tumour"}), "no", "normal", "healthy"),
        **_named(_TUMOURS | {"other tumour"}, "yes", "tumor", "tumour"),
    },
    "skin": {
        **_named(_LESIONS["melanoma"], "mel"),
        **_named(_LESIONS["nevus"], "nv"),
        **{name: _LESIONS[name] for name in ("bcc", "bkl", "df", "vasc", "akiec", "scc")},
        **_named(frozenset({"actinic keratosis"}), "ak"),
        # Sets of melanomas against the rest call the whole rest benign, carcinomas included.
        **_named(frozenset().union(*_LESIONS.values()) - {"melanoma"}, "benign"),
    },
}


def plain(name: str) -> str:
    """A class name without case, spaces and punctuation."""
    return re.sub(r"[^a-z0-9]", "", name.lower())


def meaning(name: str, kind: Kind) -> Diagnoses | None:
    """The diagnoses that a class of a dataset may stand for; None for a name that is not known."""
    written = plain(name)
    return _IN_KIND.get(kind, {}).get(written) or _ANYWHERE.get(written)


def compare_labels(
    left: str, right: str, classes: tuple[Sequence[str], Sequence[str]], kinds: tuple[Kind, Kind]
) -> Agreement:
    """Whether two datasets' labels of one picture agree.

    Args:
        left, right: the labels.
        classes, kinds: all class names, and the kind, of the left and of the right dataset.

    Returns:
        "not comparable" where a label is neither known here nor a class of the other dataset too.
    """
    names = [{plain(name) for name in side} for side in classes]
    if {plain(left), plain(right)} <= names[0] & names[1]:
        return "agree" if plain(left) == plain(right) else "differ"
    known = meaning(left, kinds[0]), meaning(right, kinds[1])
    if known[0] is None or known[1] is None:
        return "not comparable"
    return "agree" if known[0] & known[1] else "differ"


def correspondence(classes: tuple[Sequence[str], Sequence[str]], kinds: tuple[Kind, Kind]) -> Mapping[str, list[str]]:
    """The right dataset's classes that each of the left one's agrees with; empty lists where there are none."""
    left, right = classes
    return {name: [one for one in right if compare_labels(name, one, classes, kinds) == "agree"] for name in left}


def conflict_words(found: dict[str, Any]) -> str:
    """What is said of the labels of pictures that are in two datasets, from an entry of `across`."""
    if found["label_conflicts"] is None:
        return "classes not comparable"
    if found["pairs_compared"] == len(found["pairs"]):
        return f"{found['label_conflicts']} labelled otherwise"
    return f"{found['label_conflicts']} of {found['pairs_compared']} comparable pairs labelled otherwise"
