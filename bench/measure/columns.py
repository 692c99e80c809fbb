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
    short: str = ""

    def text(self, value: float | None) -> str:
        """The figure as it is shown; an en dash where there is none."""
        if value is None or not math.isfinite(value):
            return "–"
        return f"{value * self.scale:,.{self.digits}f}"

    @property
    def head(self) -> str:
        """The title where room is scarce."""
        return self.short or self.title


def _quality(name: str, title: str, about: str, short: str = "") -> Column:
    return Column(name, title, "quality", "high", 100, 1, "%", about, short)


COLUMNS: tuple[Column, ...] = (
    _quality("accuracy", "Accuracy", "Share of test images whose most probable class is the right one."),
    _quality(
        "balanced_accuracy",
        "Balanced accuracy",
        "Mean over classes of the share found: every class counts alike.",
        "Bal. acc.",
    ),
    _quality("f1", "F1", "Harmonic mean of precision and recall, mean over classes."),
    _quality("precision", "Precision", "Share of an answer's images that are rightly so, mean over classes."),
    _quality("recall", "Recall", "Share of a class's images that are found, mean over classes."),
    _quality("sensitivity", "Sensitivity", "Recall under its clinical name."),
    _quality(
        "specificity", "Specificity", "Share of the other classes' images that are left alone, mean over classes."
    ),
    _quality(
        "roc_auc", "ROC-AUC", "Chance that a class's image gets its class's higher probability; one against the rest."
    ),
    _quality(
        "roc_auc_hard", "ROC-AUC of decisions", "(recall + specificity) / 2: the paper's ROC-AUC column.", "AUC (paper)"
    ),
    _quality("pr_auc", "PR-AUC", "Average precision, one class against the rest, mean over classes."),
    Column(
        "mcc", "MCC", "quality", "high", 1, 3, "", "Matthews' correlation of decisions and labels: 1 perfect, 0 chance."
    ),
    Column("log_loss", "Log loss", "calibration", "low", 1, 3, "nats", "Mean surprise at the right class."),
    Column(
        "brier",
        "Brier score",
        "calibration",
        "low",
        1,
        3,
        "",
        "Mean squared distance of probabilities from the truth.",
        "Brier",
    ),
    Column(
        "ece",
        "Calibration error",
        "calibration",
        "low",
        100,
        1,
        "%",
        "Mean gap of confidence and accuracy, 15 bins (ECE).",
        "ECE",
    ),
    Column("params_m", "Parameters", "cost", "low", 1, 3, "M", "All numbers of the network, millions.", "Params"),
    Column("macs_m", "MACs", "cost", "low", 1, 1, "M", "Multiply-accumulates of one image: convolutions, products."),
    Column("flops_m", "FLOPs", "cost", "low", 1, 1, "M", "2 x MACs + normalizations: the unit of the paper's 0.613 G."),
    Column(
        "activations_m",
        "Activations",
        "cost",
        "low",
        1,
        2,
        "M",
        "Outputs of convolutions and linear layers, one image.",
        "Activ.",
    ),
    Column(
        "train_batch_ms",
        "Training step",
        "time",
        "low",
        1,
        1,
        "ms/batch",
        "Median time of a training step of the whole network on one batch of images.",
        "Train",
    ),
    Column(
        "head_train_batch_ms",
        "Head's step",
        "time",
        "low",
        1,
        1,
        "ms/batch",
        "Median time of a training step of a tuned head alone, on stored maps.",
        "Head",
    ),
    Column(
        "train_batch_ms_p95",
        "Training step p95",
        "time",
        "low",
        1,
        1,
        "ms/batch",
        "95th percentile of the step.",
        "Train p95",
    ),
    Column(
        "infer_batch_ms",
        "Inference",
        "time",
        "low",
        1,
        1,
        "ms/batch",
        "Median time from one batch of images to the answer, backbone and head.",
        "Infer",
    ),
    Column(
        "infer_batch_ms_p95",
        "Inference p95",
        "time",
        "low",
        1,
        1,
        "ms/batch",
        "95th percentile of the pass.",
        "Infer p95",
    ),
    Column(
        "train_images_per_s",
        "Training images/s",
        "time",
        "high",
        1,
        1,
        "/s",
        "Images trained a second, loading included, validation not; clients' seconds added up.",
        "Img/s",
    ),
    Column(
        "peak_memory_mb",
        "Peak memory",
        "time",
        "low",
        1,
        0,
        "MB",
        "Weights, gradients, optimizer and activations: the most that the network's own steps hold.",
        "Memory",
    ),
    Column("energy_j", "Energy", "time", "low", 1, 2, "J/batch", "Energy of a training step, where the device tells."),
    Column("seconds", "Cell time", "time", "low", 1, 0, "s", "Wall-clock time of the whole cell."),
    Column("up_mb", "Sent up", "federated", "low", 1, 2, "MB", "By the clients to the server, all rounds.", "Up"),
    Column("down_mb", "Sent down", "federated", "low", 1, 2, "MB", "By the server to the clients, all rounds.", "Down"),
    Column("rounds", "Rounds", "federated", "", 1, 0, "", "Communication rounds."),
    Column(
        "epsilon",
        "Epsilon",
        "federated",
        "low",
        1,
        2,
        "",
        "Privacy loss of a whole client at delta: central noise, adding or removing one; local noise, replacing one.",
    ),
    Column("delta", "Delta", "federated", "low", 1, 7, "", "The delta at which epsilon is stated."),
    Column(
        "worst_client_accuracy",
        "Worst client",
        "federated",
        "high",
        100,
        1,
        "%",
        "Accuracy of the tested model on the test images of the client served worst.",
    ),
    Column(
        "mean_client_accuracy",
        "Mean client",
        "federated",
        "high",
        100,
        1,
        "%",
        "Mean over clients of the accuracy on their test images: every client counts alike.",
    ),
    Column(
        "p10_client_accuracy",
        "10th percentile client",
        "federated",
        "high",
        100,
        1,
        "%",
        "10th percentile over clients of the accuracy on their test images.",
        "P10 client",
    ),
    Column(
        "client_accuracy_spread",
        "Client spread",
        "federated",
        "low",
        100,
        1,
        "points",
        "Standard deviation over clients of the accuracy on their test images.",
        "Spread",
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
    return Column(name, name, "quality", "", 1, 3, "", "A figure that this installation adds.")
