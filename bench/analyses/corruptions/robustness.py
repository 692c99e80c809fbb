"""The analysis `robustness`: quality under corruptions by severity, mean corruption error, and under attack."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from bench.analyses.corruptions.common import SEVERITIES, Corruption
from bench.analyses.corruptions.dermoscopy import DERMOSCOPY
from bench.analyses.corruptions.errors import Errors, check_baseline
from bench.analyses.corruptions.mri import MRI
from bench.analyses.corruptions.settings import RobustnessSettings
from bench.analyses.corruptions.sheet import contact_sheet
from bench.analyses.registry import Answer, Estimate
from bench.analyses.support.attacks import Norm, pgd
from bench.analyses.support.averages import batches, columns_of, picked, plain
from bench.analyses.support.intervals import proportion, unit_notes
from bench.analyses.support.pixel_space import PixelSpace, pixel_space
from bench.core.errors import UserError
from bench.core.identity import derive_seed
from bench.measure.quality import intervals, quality

Floats = NDArray[np.float64]
Row = dict[str, Any]
SHOWN = ("accuracy", "balanced_accuracy", "ece")


def corruptions_for(kind: str, modality: str) -> dict[str, Corruption]:
    """The corruptions of a modality, or of a dataset's kind where the modality is "kind".

    Raises:
        UserError: for a kind that no corruptions are made for.
    """
    sets = {"mri": MRI, "brain": MRI, "dermoscopy": DERMOSCOPY, "skin": DERMOSCOPY}
    name = kind if modality == "kind" else modality
    if name not in sets:
        raise UserError(f"no corruptions are made for images of kind {name!r}; say modality=mri or modality=dermoscopy")
    return sets[name]


@dataclass(frozen=True)
class Subject:
    """Some test images of a finished cell, and what answers on them.

    Attributes:
        images: uint8 [N, H, W, 3]; ids, groups [N]; labels [N].
    """

    cell: Any
    images: NDArray[np.uint8]
    ids: NDArray[np.str_]
    labels: NDArray[np.int64]
    groups: NDArray[np.str_]
    settings: RobustnessSettings

    @classmethod
    def of(cls, cell: Any, settings: RobustnessSettings) -> Subject:
        """The images that the settings draw."""
        stored = cell.predictions("test")
        rows = picked(len(stored.labels), settings.images, settings.seed)
        known = (stored.ids[rows], stored.labels[rows], stored.groups[rows])
        return cls(cell, cell.images("test")[rows], *known, settings)

    def probabilities(self, images: NDArray[np.uint8]) -> Floats:
        """The predictor's answer on images [N, k]."""
        return np.asarray(self.cell.predictor.of_images(images), dtype=np.float64)

    def error_of(self, predictor: Any, images: NDArray[np.uint8]) -> float:
        """The share of images that another predictor classifies wrongly."""
        return float((np.asarray(predictor.of_images(images)).argmax(1) != self.labels).mean())

    def corrupted(self, name: str, function: Corruption, severity: int) -> NDArray[np.uint8]:
        """All images after one corruption; an image's accident depends on its id, not on the severity.

        Args:
            name: of the corruption, by which accidents are drawn.
            function: the corruption.
            severity: 1 to 5.
        """
        seeds = [derive_seed(self.settings.seed, name, identity) for identity in self.ids]
        return np.stack([
            function(image, severity, np.random.default_rng(seed))
            for image, seed in zip(self.images, seeds, strict=True)
        ])  # fmt: skip

    def metrics(self, probabilities: Floats) -> Row:
        """The shown metrics with their bounds, by the same jackknife as a cell's own."""
        classes = self.cell.classes
        values = quality(self.labels, probabilities, classes)
        bounds = intervals(self.labels, probabilities, self.groups, classes)
        row: Row = {}
        for name in SHOWN:
            low, high = bounds[name]
            row |= columns_of(name, Estimate(plain(values[name]), plain(low), plain(high)))
        return row


def robustness(cell: Any, settings: RobustnessSettings, folder: Path) -> Answer:
    """What corruptions and attacks cost a finished cell.

    Args:
        cell: a finished cell whose predictor answers on images.
        folder: for a picture of the first image under every corruption.

    Raises:
        UserError: for a kind of image without corruptions, or a baseline that lacks one of them.
    """
    functions = corruptions_for(cell.table.kind, settings.modality)
    subject = Subject.of(cell, settings)
    plain_model = baseline_predictor(cell, settings)
    rows, errors, theirs = measured(subject, functions, plain_model)
    baseline = theirs or settings.baseline
    check_baseline(baseline, functions)
    attacks, notes = attacked(subject)
    columns = errors.columns(baseline) | {"robustness_ece": _mean_ece(rows)} | worst(attacks)
    tables = {"corruptions": rows, "errors": errors.rows(baseline), "attacks": attacks}
    if settings.against:
        notes = [f"the baseline is {settings.against}, under the same corruptions of the same images", *notes]
    of_all = f"measured on {len(subject.labels)} of {len(cell.predictions('test').labels)} test images"
    sheet = contact_sheet(subject.images[0], functions, settings.seed, folder / "corruptions.png")
    notes = [of_all, *notes, *unit_notes(subject.groups)]
    return Answer(columns, tables, {"one image under every corruption": sheet}, notes)


def baseline_predictor(cell: Any, settings: RobustnessSettings) -> Any:
    """What answers for the baseline: the predictor of the cell that differs in the model alone; None where none is
    asked for.

    Args:
        cell: the finished cell that is asked.
        settings: which model is the baseline.

    Raises:
        UserError: a baseline that is given twice, or no such cell in the run.
    """
    if not settings.against:
        return None
    if settings.baseline:
        raise UserError("robustness: the settings against and baseline both name a baseline; give one of them")
    if cell.spec.model == settings.against:
        return cell.predictor
    for other in cell.beside("model"):
        if other.spec.model == settings.against:
            return other.predictor
    raise UserError(
        f"robustness.against: the run has no finished cell of {settings.against!r} that differs from this one in the "
        "model alone; run it too"
    )


def measured(
    subject: Subject, functions: Mapping[str, Corruption], baseline: Any
) -> tuple[list[Row], Errors, dict[str, float]]:
    """Every corruption's metrics, the errors, and the baseline's mean errors on the same corrupted images.

    Args:
        subject: the images, and what answers on them.
        functions: the corruptions by name.
        baseline: answers on images too, or None.

    Returns:
        Rows by corruption and severity; errors; the baseline's by corruption and `clean`, empty without one.
    """
    clean = subject.probabilities(subject.images)
    rows: list[Row] = [{"corruption": "clean", "severity": 0, **subject.metrics(clean)}]
    wrong = np.zeros((len(functions), len(SEVERITIES), len(subject.labels)))
    theirs: dict[str, list[float]] = {"clean": [subject.error_of(baseline, subject.images)]} if baseline else {}
    for number, (name, function) in enumerate(functions.items()):
        for severity in SEVERITIES:
            images = subject.corrupted(name, function, severity)
            found = subject.probabilities(images)
            wrong[number, severity - 1] = found.argmax(1) != subject.labels
            rows.append({"corruption": name, "severity": severity, **subject.metrics(found)})
            if baseline:
                theirs.setdefault(name, []).append(subject.error_of(baseline, images))
    missed = (clean.argmax(1) != subject.labels).astype(float)
    errors = Errors(tuple(functions), wrong.mean(1), missed, subject.groups, subject.settings)
    return rows, errors, {name: float(np.mean(values)) for name, values in theirs.items()}


def _mean_ece(rows: Iterable[Row]) -> Estimate:
    """The mean calibration error over corruptions and severities."""
    return Estimate(float(np.mean([row["ece"] for row in rows if row["severity"]])))


def attacked(subject: Subject) -> tuple[list[Row], list[str]]:
    """Accuracy under attack by norm and radius, and what was left out."""
    network = getattr(subject.cell.predictor, "network", None)
    if network is None:
        return [], ["not attacked: the predictor is no network whose gradient could be followed"]
    settings = subject.settings
    count = min(settings.attack_images, len(subject.labels))
    space = pixel_space(network, subject.cell.prepare, subject.images.shape[1])
    radii: list[tuple[Norm, float]] = [("l2", each) for each in settings.l2] + [
        ("linf", each) for each in settings.linf
    ]
    rows = []
    for norm, radius in radii:
        right = _right_under(space, subject, count, norm, radius)
        found = proportion(right, subject.groups[:count])
        rows.append({"norm": norm, "radius": radius, "images": count, **columns_of("accuracy", found)})
    return rows, [f"attacked with {settings.attack_steps} steps on {count} images: an upper bound of the true accuracy"]


def _right_under(space: PixelSpace, subject: Subject, count: int, norm: Norm, radius: float) -> NDArray[np.bool_]:
    """Whether each image is still classified rightly after the attack [count]; one that was wrong before stays so."""
    found = []
    for part in batches(count, subject.settings.batch):
        pixels = space.pixels(subject.images[:count][part])
        labels = torch.from_numpy(subject.labels[:count][part]).to(pixels.device)
        moved = pgd(space.logits, pixels, labels, radius, norm, subject.settings.attack_steps, subject.settings.seed)
        with torch.no_grad():
            kept = (space.logits(moved).argmax(1) == labels) & (space.logits(pixels).argmax(1) == labels)
        found.append(kept.cpu().numpy())
    return np.concatenate(found)


def worst(rows: list[Row]) -> dict[str, Estimate]:
    """The accuracy at the largest radius of each norm as a column."""
    largest: dict[str, Row] = {}
    for row in rows:
        if row["norm"] not in largest or row["radius"] > largest[row["norm"]]["radius"]:
            largest[row["norm"]] = row
    return {
        f"robustness_pgd_{norm}": Estimate(row["accuracy"], row["accuracy_low"], row["accuracy_high"])
        for norm, row in largest.items()
    }
