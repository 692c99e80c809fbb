"""The paper's printed values (tables 1 to 4 and section 4.4), which stand beside ours and never in our column."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

SOURCE = "Nampalle et al., DeepMediX, 2023"

# Registered model names against the paper's.
PAPER_MODELS = {
    "deepmedix": "DeepMediX",
    "deepmedix-gmp": "Model-1",
    "deepmedix-noskip": "Model-2",
    "deepmedix-nodropout": "Model-3",
    "deepmedix-noskip-nodropout": "Model-4",
    "deepmedix-wide": "Model-5",
    "deepmedix-wide-noskip": "Model-6",
    "deepmedix-wide-nodropout": "Model-7",
    "deepmedix-wide-noskip-nodropout": "Model-8",
}
CHANGES = {
    "deepmedix": "the full model",
    "deepmedix-gmp": "global max pooling",
    "deepmedix-noskip": "no skip connection",
    "deepmedix-nodropout": "no dropout modules",
    "deepmedix-noskip-nodropout": "no skip, no dropout modules",
    "deepmedix-wide": "256 units a dense layer",
    "deepmedix-wide-noskip": "256 units, no skip",
    "deepmedix-wide-nodropout": "256 units, no dropout modules",
    "deepmedix-wide-noskip-nodropout": "256 units, no skip, no dropout modules",
}
# What the paper most likely means by each name, first; sets that it cites or that come near, after.
PAPER_DATASETS = {
    "Brain": ("brain-kaggle", "figshare-brain", "figshare-brain-regions"),
    "Br35H": ("br35h",),
    "HAM-10000": ("ham10000-mel-balanced", "ham10000-mel-oversampled", "ham10000-mel"),
    "ISIC-2019": ("isic2019",),
}
FLOPS_M = 613.0
TRAIN_BATCH_MS = 200.0
COLUMNS = {"precision": "precision", "recall": "recall", "f1": "f1", "roc_auc": "roc_auc_hard", "accuracy": "accuracy"}

FOOTNOTES = {
    "roc_auc": "The paper's ROC-AUC is (macro recall + macro specificity) / 2 from hard decisions: on its binary rows "
    "it equals the recall exactly. Ours of that kind (roc_auc_hard) stands beside it; the area under the curve from "
    "probabilities follows as roc_auc.",
    "brain": "“Brain [32]” cites figshare-brain, which has 3 classes, while section 3.4 says 4: 7 of the 9 printed "
    "rows fit 4 classes and none fits 3, so brain-kaggle is read as the paper's.",
    "ham": "The paper calls HAM10000 balanced and binary. Its precision, recall and accuracy imply a prevalence near "
    "one half, so ham10000-mel-balanced is read as the paper's.",
    "model1": "Model-1 on ISIC-2019 has the full model's recall, F1 and AUC to the digit but a higher accuracy (79.20 "
    "over 79.08), against “consistently decreased”.",
}


@dataclass(frozen=True)
class Published:
    """A printed row; values as percent, by our column name (the paper's ROC-AUC is `roc_auc_hard`)."""

    table: int
    system: str
    dataset: str
    values: dict[str, float]


@cache
def rows() -> tuple[Published, ...]:
    """Every printed row, in the paper's order."""
    text = files("reports.tables").joinpath("published.csv").read_text(encoding="utf-8")
    return tuple(_row(record) for record in csv.DictReader(text.splitlines()))


def _row(record: dict[str, str]) -> Published:
    values = {ours: float(record[theirs]) for theirs, ours in COLUMNS.items() if record[theirs]}
    return Published(int(record["table"]), record["system"], record["dataset"], values)


@dataclass(frozen=True)
class Compared:
    """A model of a system that tables 2 and 3 print or their text names, and what its own publication says.

    Attributes:
        system: as `published.csv` spells it; "" where no row is its own.
        foot: the number of the table at whose foot its doubts stand.
        own: the publication's value in percent, with the data set; protocol: what was tested on what.
        doubts: sentences for the table's foot.
    """

    model: str
    system: str
    foot: int
    own: str
    protocol: str
    doubts: tuple[str, ...]


@cache
def compared() -> tuple[Compared, ...]:
    """The models of tables 2 and 3, from `systems.csv`: what their cards say, for reports, which know no models."""
    text = files("reports.tables").joinpath("systems.csv").read_text(encoding="utf-8")
    records = csv.DictReader(text.splitlines())
    return tuple(_compared(record) for record in records)


def _compared(record: dict[str, str]) -> Compared:
    doubts = tuple(filter(None, record["doubts"].split("|")))
    return Compared(record["model"], record["system"], int(record["foot"]), record["own"], record["protocol"], doubts)


@cache
def paper_dataset(dataset: str) -> str:
    """The paper's name for one of our datasets; "" when it has none."""
    return next((paper for paper, ours in PAPER_DATASETS.items() if dataset in ours), "")


@cache
def published_values(model: str, dataset: str) -> dict[str, float]:
    """What the paper prints for a model on a dataset, as percent by our column name; empty when it prints nothing."""
    system, paper = PAPER_MODELS.get(model), paper_dataset(dataset)
    found = [row.values for row in rows() if row.table in (1, 4) and row.system == system and row.dataset == paper]
    return found[0] if found else {}
