"""The one list of result columns: what each is called, how it is written, which way is better, on which part it stands.

Tables, the gate, sweeps, comparisons, W&B and the HTML page read this list. A column is declared here, or by a plugin
through `COLUMNS` (entry-point group `bench.columns`).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from bench.core.registry import Registry

if TYPE_CHECKING:
    from numpy.typing import NDArray

Better = Literal["high", "low", ""]
Part = Literal["test", "validation", "fit", "none"]
Family = Literal["quality", "calibration", "cost", "time", "federated", "local-only", "fit", "analyses"]

QUALITY: tuple[Family, ...] = ("quality", "calibration")


@dataclass(frozen=True)
class Column:
    """A column of the result table.

    Attributes:
        name: as in `results.csv`.
        title: as a table's head.
        family: what it speaks of; tables and filters group by it.
        unit: "%" and "points" stand for stored fractions, shown times 100.
        digits: decimals shown.
        better: "high", "low", or "" where neither is.
        part: what it was measured on; "none" for what needs no data.
        needs_probabilities: False where the predicted classes are enough.
        summary: one sentence for someone who has never seen it.
        short: the title where room is scarce.
        limits: what its stored values are bounded by.
        level: 1 among the first that a reader sees, 2 in static tables, 3 in full listings, 4 in no result table: how a
            fit went, and what is of validation, which never stands beside test metrics.
        same_as: the column that it repeats under another name; "" when none.
        compute: of added quality columns: (labels [N], probabilities [N, k]) -> a number, NaN where not defined.
    """

    name: str
    title: str
    family: Family
    unit: str
    digits: int
    better: Better
    part: Part
    needs_probabilities: bool
    summary: str
    short: str = ""
    limits: tuple[float, float] = (-math.inf, math.inf)
    level: int = 3
    same_as: str = ""
    compute: Callable[[NDArray[Any], NDArray[Any]], float] | None = None

    @property
    def scale(self) -> float:
        """The factor from a stored value to a shown one."""
        return 100 if self.unit in ("%", "points") else 1

    @property
    def head(self) -> str:
        """The title where room is scarce."""
        return self.short or self.title

    @property
    def listed(self) -> bool:
        """Whether result tables show it."""
        return self.level <= 3

    def text(self, value: float | None) -> str:
        """The metric as it is shown; an en dash where there is none."""
        if value is None or not math.isfinite(value):
            return "–"
        return f"{value * self.scale:,.{self.digits}f}"


COLUMNS: Registry[Column] = Registry("column", "bench.columns", listing="docs/reading-a-report.md", kind=Column)


def add_column(about: Column) -> Column:
    """Register a column. Raises ValueError when the name is taken."""
    return COLUMNS.register(about.name, about)


def column(name: str) -> Column:
    """The column of a name; `recall_CLASS` and unknown ones get a plain description."""
    if name in COLUMNS:
        return COLUMNS.get(name)
    if name.startswith("recall_"):
        label = f"Recall {name.removeprefix('recall_')}"
        return _share(name, label, "Share of this class's images that are found.")
    return Column(name, name, "quality", "", 3, "", "test", True, "A metric that this installation adds.")


def names_of(*families: Family, part: Part | None = None, level: int = 4) -> tuple[str, ...]:
    """The names of columns of these families (all when none is named), in the list's order.

    Args:
        part: only those measured on it.
        level: only those of this level or a more prominent one.
    """
    every = (COLUMNS.get(name) for name in COLUMNS.names())
    return tuple(
        one.name
        for one in every
        if (not families or one.family in families) and part in (None, one.part) and one.level <= level
    )


def computed() -> tuple[Column, ...]:
    """The columns that plugins compute from labels and probabilities."""
    return tuple(one for one in map(COLUMNS.get, COLUMNS.names()) if one.compute is not None)


def _share(name: str, title: str, summary: str, needs: bool = False, **more: Any) -> Column:
    return Column(name, title, "quality", "%", 1, "high", "test", needs, summary, limits=(0.0, 1.0), **more)


def _cost(name: str, title: str, digits: int, summary: str, **more: Any) -> Column:
    return Column(name, title, "cost", "M", digits, "low", "none", False, summary, **more)


def _time(name: str, title: str, unit: str, summary: str, digits: int = 1, **more: Any) -> Column:
    return Column(name, title, "time", unit, digits, more.pop("better", "low"), "fit", False, summary, **more)


def _federated(name: str, title: str, unit: str, digits: int, summary: str, better: Better = "low",
               **more: Any) -> Column:  # fmt: skip
    return Column(name, title, "federated", unit, digits, better, "fit", False, summary, **more)


def _clients(name: str, title: str, summary: str, unit: str = "%", **more: Any) -> Column:
    better: Better = "low" if unit == "points" else "high"
    placed: dict[str, Any] = {"family": "federated", "part": "test"} | more
    return Column(name, title, unit=unit, digits=1, better=better, needs_probabilities=False, summary=summary, **placed)


def _declare() -> None:
    for one in (*_quality(), *_calibration(), *_costs(), *_times(), *_federation(), *_over_clients(), *_fits()):
        add_column(one)


def _quality() -> list[Column]:
    found = "mean over classes of the share found"
    return [
        _share("accuracy", "Accuracy", "Share of test images whose most probable class is the right one.", level=1),
        _share("balanced_accuracy", "Balanced accuracy", f"{found.capitalize()}: every class counts alike.",
               short="Bal. acc.", level=1),
        _share("f1", "F1", "Harmonic mean of precision and recall, mean over classes."),
        _share("precision", "Precision", "Share of an answer's images that are rightly so, mean over classes."),
        _share("recall", "Recall", "Share of a class's images that are found, mean over classes.",
               same_as="balanced_accuracy"),
        _share("sensitivity", "Sensitivity", "Recall under its clinical name.", same_as="balanced_accuracy"),
        _share("specificity", "Specificity",
               "Share of the other classes' images that are left alone, mean over classes."),
        _share("roc_auc", "ROC-AUC",
               "Chance that a class's image gets its class's higher probability; one against the rest.", True, level=1),
        _share("roc_auc_hard", "ROC-AUC of decisions", "(recall + specificity) / 2: the paper's ROC-AUC column.",
               short="AUC (paper)"),
        _share("pr_auc", "PR-AUC", "Average precision, one class against the rest, mean over classes.", True),
        Column("mcc", "MCC", "quality", "", 3, "high", "test", False,
               "Matthews' correlation of decisions and labels: 1 perfect, 0 chance.", limits=(-1.0, 1.0)),
    ]  # fmt: skip


def _calibration() -> list[Column]:
    return [
        Column("log_loss", "Log loss", "calibration", "nats", 3, "low", "test", True,
               "Mean surprise at the right class.", limits=(0.0, math.inf)),
        Column("brier", "Brier score", "calibration", "", 3, "low", "test", True,
               "Mean squared distance of probabilities from the truth.", "Brier", (0.0, math.inf)),
        Column("ece", "Calibration error", "calibration", "%", 1, "low", "test", True,
               "Mean gap of confidence and accuracy, 15 bins (ECE).", "ECE", (0.0, 1.0), level=1),
    ]  # fmt: skip


def _costs() -> list[Column]:
    return [
        _cost("params_m", "Parameters", 3, "All numbers of the network, millions.", short="Params", level=2),
        _cost("macs_m", "MACs", 1, "Multiply-accumulates of one image: convolutions, products.", level=1),
        _cost("flops_m", "FLOPs", 1, "2 x MACs + normalizations: the unit of the paper's 0.613 G.", level=2),
        _cost("activations_m", "Activations", 2, "Outputs of convolutions and linear layers, one image.",
              short="Activ."),
    ]  # fmt: skip


def _times() -> list[Column]:
    step = "Median time of a training step of the whole network on one batch of images."
    head = "Median time of a training step of a tuned head alone, on stored maps."
    forward = "Median time from one batch of images to the answer, backbone and head."
    return [
        _time("train_batch_ms", "Training step", "ms/batch", step, short="Train", level=1),
        _time("head_train_batch_ms", "Head's step", "ms/batch", head, short="Head", level=1),
        _time("train_batch_ms_p95", "Training step p95", "ms/batch", "95th percentile of the step.", short="Train p95"),
        _time("infer_batch_ms", "Inference", "ms/batch", forward, short="Infer", level=1),
        _time("infer_batch_ms_p95", "Inference p95", "ms/batch", "95th percentile of the pass.", short="Infer p95"),
        _time("train_images_per_s", "Training images/s", "/s",
              "Images trained a second, loading included, validation not; clients' seconds added up.",
              short="Img/s", better="high"),
        _time("peak_memory_mb", "Peak memory", "MB",
              "Weights, gradients, optimizer and activations: the most that the network's own steps hold.", 0,
              short="Memory", level=2),
        _time("energy_j", "Energy", "J/batch", "Energy of a training step, where the device tells.", 2),
        _time("seconds", "Cell time", "s", "Wall-clock time of the whole cell.", 0),
    ]  # fmt: skip


def _federation() -> list[Column]:
    return [
        _federated("rounds", "Rounds", "", 0, "Communication rounds.", "", level=2),
        _federated("up_mb", "Sent up", "MB", 2, "By the clients to the server, all rounds.", short="Up", level=2),
        _federated("down_mb", "Sent down", "MB", 2, "By the server to the clients, all rounds.", short="Down", level=2),
        _federated("epsilon", "Epsilon", "", 2,
                   "Privacy loss of a whole client at delta: central noise, adding or removing one; local noise, "
                   "replacing one."),
        _federated("delta", "Delta", "", 7, "The delta at which epsilon is stated."),
    ]  # fmt: skip


def _over_clients() -> list[Column]:
    """Over clients: of the tested model on test images, of rounds and of models trained alone on validation images."""
    tested = [
        _clients("worst_client_accuracy", "Worst client",
                 "Accuracy of the tested model on the test images of the client served worst.", level=2),
        _clients("mean_client_accuracy", "Mean client",
                 "Mean over clients of the accuracy on their test images: every client counts alike.",
                 limits=(0.0, 1.0)),
        _clients("p10_client_accuracy", "10th percentile client",
                 "10th percentile over clients of the accuracy on their test images.", short="P10 client"),
        _clients("client_accuracy_spread", "Client spread",
                 "Standard deviation over clients of the accuracy on their test images.", "points", short="Spread"),
    ]  # fmt: skip
    return [*tested, *(_owned(one) for one in tested), *(_validated(one, "client", "federated") for one in tested),
            *(_validated(one, "local_model", "local-only") for one in tested)]  # fmt: skip


def _owned(one: Column) -> Column:
    about = one.summary.replace("the tested model", "each client's own model").replace(
        "the accuracy on", "their own models' accuracy on"
    )
    return _clients(f"own_{one.name}", f"{one.title} (own models)", about, one.unit, limits=one.limits)


def _validated(one: Column, of: str, family: Family) -> Column:
    title = f"{one.title.replace('client', of.replace('_', ' '))} (validation)"
    whose = "each client's own" if of == "client" else "all"
    about = f"{one.title}, on {whose} validation images."
    return _clients(
        f"val_{one.name.replace('client', of)}", title, about, one.unit, family=family, part="validation", level=4
    )


def _fits() -> list[Column]:
    """How a fit went."""
    counts: tuple[tuple[str, str, Family, str], ...] = (
        ("best_epoch", "Best epoch", "fit", "The epoch whose weights were kept, from 0."),
        ("epochs_run", "Epochs run", "fit", "Epochs until the fit ended."),
        ("clients", "Clients", "local-only", "Clients that hold training images."),
        ("median_client", "Median client", "local-only", "The client whose model was tested: the median one."),
    )  # fmt: skip
    seconds: tuple[tuple[str, str, str], ...] = (
        ("best_round", "Best round", "The round whose weights were kept, from 1."),
        ("seconds_compute", "Computing", "Seconds that clients and server computed, all rounds."),
        ("seconds_communication", "Communication", "Seconds that messages took, all rounds."),
    )
    of_fit = [
        Column(name, title, family, "", 0, "", "fit", False, about, level=4) for name, title, family, about in counts
    ]
    return of_fit + [
        Column(name, title, "federated", "s" if "seconds" in name else "", 0, "", "fit", False, about, level=4)
        for name, title, about in seconds
    ]


_declare()
