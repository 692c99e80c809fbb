"""What a run knows of a checklist's topics, a sentence or more each; "" where it knows nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from bench.core.output import counted
from bench.measure.columns import COLUMNS, QUALITY, column
from bench.store.answers import StoredAnswer
from bench.store.cells import StoredCell
from reports.compare.ranking import with_interval
from reports.content import Drawing

Fact = Callable[[Drawing], str]
_SPLITS = {
    "grouped": "by whole groups (patients or lesions), stratified by class, 70/10/20",
    "image": "by image, 70/10/20: images of one patient may stand in several parts",
    "official": "as the distribution's author divided it",
    "site": "one site left out for testing",
}


def facts(drawing: Drawing, topics: Iterable[str]) -> str:
    """What is known of some topics, one after the other; "" for nothing."""
    return " ".join(found for topic in topics if (found := FACTS[topic](drawing)))


def _over_datasets(drawing: Drawing, told: Callable[[str, Sequence[StoredCell]], str]) -> str:
    """A sentence a dataset that has finished cells."""
    done = drawing.source.done
    names = dict.fromkeys(str(cell.spec["dataset"]) for cell in done)
    sentences = [told(name, [cell for cell in done if cell.spec["dataset"] == name]) for name in names]
    return " ".join(sentence for sentence in sentences if sentence)


def _data_of(cell: StoredCell) -> dict[str, Any]:
    data: dict[str, Any] = (cell.result or {})["data"]
    return data


def _settings(drawing: Drawing, *names: str) -> str:
    """Fields of the protocol, with every value that the run's cells have."""
    seen = {name: dict.fromkeys(str(cell.spec["protocol"].get(name)) for cell in drawing.source.done) for name in names}
    return ", ".join(f"{name} = {' or '.join(values)}" for name, values in seen.items())


def _answers(drawing: Drawing, name: str) -> list[tuple[StoredCell, StoredAnswer]]:
    source = drawing.source
    given = [(cell, answer) for cell in source.done for answer in source.answers.get(cell.key, ())]
    return [(cell, answer) for cell, answer in given if answer.name == name]


def _answered(drawing: Drawing, name: str, columns: Sequence[str], words: str) -> str:
    """The range over cells of an analysis' columns."""
    given = _answers(drawing, name)
    shown = []
    for wanted in columns:
        values = [found[0] for _, answer in given if (found := answer.columns.get(wanted)) and found[0] is not None]
        if values:
            shown.append(f"{wanted} {min(values):.3g} to {max(values):.3g}")
    over = f"{words} ({counted(len(given), 'cell')}): {', '.join(shown)}; intervals in the page."
    return over if shown else ""


def _models(drawing: Drawing) -> str:
    names = dict.fromkeys(str(cell.spec["model"]) for cell in drawing.source.done)
    costs = {str(cell.spec["model"]): (cell.result or {})["cost"].get("params_m") for cell in drawing.source.done}
    told = [f"{name} ({costs[name]:.2f} million parameters)" if costs[name] else name for name in names]
    return f"Convolutional networks for image classification: {', '.join(told)}; `bench models show NAME` lists layers."


def _data(drawing: Drawing) -> str:
    def told(name: str, cells: Sequence[StoredCell]) -> str:
        about = _data_of(cells[0])
        return f"{name}: {about['images']:,} images; source and licence by `bench data show {name}`."

    return _over_datasets(drawing, told)


def _classes(drawing: Drawing) -> str:
    return _over_datasets(
        drawing, lambda name, cells: f"{name}: classes {', '.join(_data_of(cells[0])['classes'])}, as distributed."
    )


def _partition(drawing: Drawing) -> str:
    def told(name: str, cells: Sequence[StoredCell]) -> str:
        kinds = dict.fromkeys(str(cell.spec["split"]).partition(":")[0] for cell in cells)
        return f"{name}: {'; '.join(_SPLITS.get(kind, kind) for kind in kinds)}."

    return _over_datasets(drawing, told)


def _disjoint(drawing: Drawing) -> str:
    def told(name: str, cells: Sequence[StoredCell]) -> str:
        groups = dict.fromkeys(str(_data_of(cell).get("groups_test")) for cell in cells)
        audits = dict.fromkeys(str(_data_of(cell).get("audit")) for cell in cells)
        return f"{name}: {' or '.join(groups)} groups in the test set; audit for leakage: {', '.join(audits)}."

    return _over_datasets(drawing, told)


def _size(drawing: Drawing) -> str:
    def told(name: str, cells: Sequence[StoredCell]) -> str:
        sizes = dict.fromkeys(
            tuple(_data_of(cell).get(part) for part in ("n_train", "n_val", "n_test")) for cell in cells
        )
        first = next(iter(sizes))
        more = f", and {counted(len(sizes) - 1, 'other division')} by seed or fold" if len(sizes) > 1 else ""
        return (
            f"{name}: {first[0]:,} images in training, {first[1]:,} in validation, {first[2]:,} in the test set{more}."
        )

    return _over_datasets(drawing, told)


def _missing(drawing: Drawing) -> str:
    def told(name: str, cells: Sequence[StoredCell]) -> str:
        about = _data_of(cells[0])
        lacking = (about.get("expected") or about["images"]) - about["images"]
        return f"{name}: {lacking:,} of {about['images'] + lacking:,} images of the distribution missing."

    return _over_datasets(drawing, told)


def _subsets(drawing: Drawing) -> str:
    return _over_datasets(
        drawing, lambda name, cells: " ".join(f"{name}: {note}." for note in _data_of(cells[0])["notes"])
    )


def _synthetic(drawing: Drawing) -> str:
    return _over_datasets(
        drawing,
        lambda name, cells: (
            f"{name}: {'drawn by code' if _data_of(cells[0]).get('synthetic') else 'no synthetic images'}."
        ),
    )


def _cautions(drawing: Drawing) -> str:
    lost = len(drawing.source.cells) - len(drawing.source.done)
    failed = f"{lost} of {len(drawing.source.cells)} cells have no result." if lost else ""
    words = dict.fromkeys(str(word) for cell in drawing.source.done for word in _data_of(cell).get("cautions") or ())
    return " ".join([failed, *(f"{word}." for word in words)]).strip()


def _software(drawing: Drawing) -> str:
    environment = drawing.source.environment
    packages = environment.get("packages") or {}
    if not packages:
        return ""
    named = [
        f"{name} {packages[name]}"
        for name in ("torch", "torchvision", "pytorch-lightning", "flwr")
        if packages.get(name)
    ]
    return f"deepmedix-bench {environment.get('bench')}, Python {environment.get('python')}, {', '.join(named)}."


def _performance(drawing: Drawing) -> str:
    sentences = []
    for ranking in drawing.rankings:
        figures = [
            f"{row.model} {with_interval(row, 'accuracy')} %, ROC-AUC {with_interval(row, 'roc_auc')}"
            for row in ranking.rows
        ]
        if figures:
            sentences.append(f"Test set, {ranking.condition.name}: accuracy of {'; '.join(figures)}.")
    return " ".join(sentences)


def _selection(drawing: Drawing) -> str:
    chosen = [f"{ranking.condition.name}: {ranking.chosen}" for ranking in drawing.rankings if ranking.chosen]
    picked = f" By validation accuracy: {'; '.join(chosen)}." if chosen else ""
    return "The epoch by validation accuracy; the test set is unreachable while fitting." + picked


def _comparison(drawing: Drawing) -> str:
    models = dict.fromkeys(str(cell.spec["model"]) for cell in drawing.source.done)
    if len(models) < 2:
        return ""
    verdicts = [
        f"{ranking.condition.name}: best {ranking.best.model}, {ranking.verdict}."
        for ranking in drawing.rankings
        if ranking.best is not None
    ]
    return f"A comparison of {len(models)} models on the same images, paired. {' '.join(verdicts)}"


def _uncertainty(drawing: Drawing) -> str:
    methods = dict.fromkeys(str((cell.result or {}).get("interval_method")) for cell in drawing.source.done)
    seeds = len({cell.spec["seed"] for cell in drawing.source.done})
    tests = "paired tests adjusted over all pairs of models"
    return f"95 % intervals: {'; '.join(methods)}; {counted(seeds, 'seed')}; {tests}."


def _metrics(drawing: Drawing) -> str:
    known = dict.fromkeys(name for cell in drawing.source.done for name in (cell.result or {})["metrics"])
    shown = [column(name).title for name in known if name in COLUMNS and column(name).family in QUALITY]
    return f"{', '.join(shown)}; docs/reading-a-report.md defines each." if shown else ""


def _sites(drawing: Drawing) -> str:
    names = {
        site
        for cell in drawing.source.done
        if (found := drawing.source.predictions(cell)) is not None
        for site in set(found.sites.tolist())
        if site
    }
    return f"Test images by site or client: {', '.join(sorted(names))}; accuracy of each in the page." if names else ""


def _subgroups(drawing: Drawing) -> str:
    given = [answer for _, answer in _answers(drawing, "subgroups")]
    columns = sorted({name for answer in given for name in answer.columns if name.startswith("subgroups_gap")})
    return _answered(drawing, "subgroups", columns, "Largest gaps in accuracy between subgroups")


def _thresholds(drawing: Drawing) -> str:
    given = [answer for _, answer in _answers(drawing, "decisions")]
    points = ("decisions_cost", "decisions_sensitivity", "decisions_specificity")
    columns = dict.fromkeys(name for answer in given for name in answer.columns if name.startswith(points))
    return _answered(drawing, "decisions", list(columns), "Operating points chosen on validation")


FACTS: dict[str, Fact] = {
    "models": _models,
    "data": _data,
    "classes": _classes,
    "partition": _partition,
    "disjoint": _disjoint,
    "size": _size,
    "missing": _missing,
    "subsets": _subsets,
    "synthetic": _synthetic,
    "cautions": _cautions,
    "software": _software,
    "performance": _performance,
    "selection": _selection,
    "comparison": _comparison,
    "uncertainty": _uncertainty,
    "metrics": _metrics,
    "sites": _sites,
    "subgroups": _subgroups,
    "retrospective": lambda drawing: "Retrospective: images that were collected before." if drawing.source.done else "",
    "preparation": lambda drawing: f"Images resized to squares: {_settings(drawing, 'image_size', 'normalization')}.",
    "initialization": lambda drawing: f"{_settings(drawing, 'weights', 'tuning')}.",
    "training": lambda drawing: (
        f"{_settings(drawing, 'epochs', 'batch_size', 'optimizer', 'learning_rate', 'schedule', 'augmentation')}; "
        f"{counted(len(drawing.source.done), 'fit')}."
    ),
    "imbalance": lambda drawing: f"{_settings(drawing, 'class_balance')}; recall of every class is in the page.",
    "protocol": lambda drawing: "The full protocol stands in the page, under Environment, and in cells/KEY/cell.json.",
    "failures": lambda drawing: "Confusion matrices in the page; the images of each error in predictions.parquet.",
    "evaluate": lambda drawing: "`bench predict RUN/KEY IMAGES` answers with the stored predictors.",
    "external": lambda drawing: _answered(
        drawing, "external", ("external_accuracy", "external_roc_auc", "external_drop_roc_auc", "external_ece"),
        "On another dataset's images",
    ),
    "explanations": lambda drawing: _answered(
        drawing, "explanations", ("explanations_mass_over_chance_layercam", "explanations_faithfulness_layercam"),
        "LayerCAM and integrated gradients, measured",
    ),
    "robustness": lambda drawing: _answered(
        drawing, "robustness", ("robustness_accuracy", "robustness_drop", "robustness_pgd_linf"), "Under corruptions"
    ),
    "calibration": lambda drawing: _answered(
        drawing, "calibration", ("calibration_ece", "calibration_temperature", "calibration_ece_temperature"),
        "Calibration, before and after a temperature from validation",
    ),
    "thresholds": _thresholds,
    "ood": lambda drawing: _answered(
        drawing, "similar", ("similar_unlike", "similar_error_auroc"), "Images unlike the training images"
    ),
}  # fmt: skip
