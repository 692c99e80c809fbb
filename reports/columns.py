"""What each figure of a result is called, how it is written, and which way is better: one list for every table."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

Better = Literal["high", "low", ""]


@dataclass(frozen=True)
class Column:
    """A figure of the result table.

    Attributes:
        name: as in `results.csv`.
        title: as a table's head.
        family: "quality", "calibration", "cost", "time" or "federated".
        scale: factor from stored value to shown value (100 for fractions shown as percent).
        digits: decimals shown.
        about: one sentence for someone who has never seen it.
    """

    name: str
    title: str
    family: str
    better: Better
    scale: float
    digits: int
    unit: str
    about: str

    def text(self, value: float | None) -> str:
        """The figure as it is shown; an en dash where there is none."""
        if value is None or not math.isfinite(value):
            return "–"
        return f"{value * self.scale:,.{self.digits}f}"


def _quality(name: str, title: str, about: str) -> Column:
    return Column(name, title, "quality", "high", 100, 1, "%", about)


COLUMNS: tuple[Column, ...] = (
    _quality("accuracy", "Accuracy", "Share of test images whose most probable class is the right one."),
    _quality("balanced_accuracy", "Bal. acc.", "Mean over classes of the share found: every class counts alike."),
    _quality("f1", "F1", "Harmonic mean of precision and recall, mean over classes."),
    _quality("precision", "Precision", "Share of an answer's images that are rightly so, mean over classes."),
    _quality("recall", "Recall", "Share of a class's images that are found, mean over classes."),
    _quality("sensitivity", "Sensitivity", "Recall under its clinical name."),
    _quality(
        "specificity", "Specificity", "Share of the other classes' images that are left alone, mean over classes."
    ),
    _quality(
        "roc_auc", "ROC-AUC", "Chance that a class's image gets the higher probability, one class against the rest."
    ),
    _quality("roc_auc_hard", "AUC (paper's)", "(recall + specificity) / 2 from decisions: the paper's ROC-AUC column."),
    _quality(
        "pr_auc", "PR-AUC", "Average precision from probabilities, one class against the rest, mean over classes."
    ),
    Column(
        "mcc", "MCC", "quality", "high", 1, 3, "", "Matthews' correlation of decisions and labels: 1 perfect, 0 chance."
    ),
    Column("log_loss", "Log loss", "calibration", "low", 1, 3, "nats", "Mean surprise at the right class."),
    Column("brier", "Brier", "calibration", "low", 1, 3, "", "Mean squared distance of probabilities from the truth."),
    Column("ece", "ECE", "calibration", "low", 100, 1, "%", "Mean gap between confidence and accuracy over 15 bins."),
    Column("params_m", "Params", "cost", "low", 1, 3, "M", "Trainable and fixed numbers of the network, millions."),
    Column("macs_m", "MACs", "cost", "low", 1, 1, "M", "Multiply-accumulates of one image: convolutions, products."),
    Column("flops_m", "FLOPs", "cost", "low", 1, 1, "M", "2 x MACs + normalizations: the unit of the paper's 0.613 G."),
    Column(
        "activations_m", "Activ.", "cost", "low", 1, 2, "M", "Outputs of convolutions and linear layers, one image."
    ),
    Column("train_batch_ms", "Train", "time", "low", 1, 1, "ms/batch", "Median time of a training step on one batch."),
    Column("train_batch_ms_p95", "Train p95", "time", "low", 1, 1, "ms/batch", "95th percentile of the training step."),
    Column("infer_batch_ms", "Infer", "time", "low", 1, 1, "ms/batch", "Median time of a forward pass on one batch."),
    Column("infer_batch_ms_p95", "Infer p95", "time", "low", 1, 1, "ms/batch", "95th percentile of the forward pass."),
    Column("train_images_per_s", "Img/s", "time", "high", 1, 1, "/s", "Training images a second, loading included."),
    Column("peak_memory_mb", "Memory", "time", "low", 1, 0, "MB", "Peak: the GPU's allocator, else the whole process."),
    Column("energy_j", "Energy", "time", "low", 1, 2, "J/batch", "Energy of a training step, where the device tells."),
    Column("seconds", "Cell time", "time", "low", 1, 0, "s", "Wall-clock time of the whole cell."),
    Column("up_mb", "Up", "federated", "low", 1, 2, "MB", "Sent by the clients to the server, all rounds."),
    Column("down_mb", "Down", "federated", "low", 1, 2, "MB", "Sent by the server to the clients, all rounds."),
    Column("rounds", "Rounds", "federated", "", 1, 0, "", "Communication rounds."),
    Column(
        "worst_client_accuracy",
        "Worst client",
        "federated",
        "high",
        100,
        1,
        "%",
        "Accuracy of the client served worst.",
    ),
)

BY_NAME = {column.name: column for column in COLUMNS}
PRINTED = ("precision", "recall", "f1", "roc_auc_hard", "accuracy")


def column(name: str) -> Column:
    """The column of a name; `recall_CLASS` and unknown ones get a plain description."""
    if name in BY_NAME:
        return BY_NAME[name]
    if name.startswith("recall_"):
        return _quality(name, f"Recall {name.removeprefix('recall_')}", "Share of this class's images that are found.")
    return Column(name, name, "other", "", 1, 3, "", "")
