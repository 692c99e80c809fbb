"""What the listing commands show, as plain rows."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from bench.core.config import Protocol, Runtime
from bench.measure.columns import names_of
from models.backbones.registry import BACKBONES, effective_size
from models.literature.system import Publication
from models.registry import MODELS, ModelSpec

PROFILE_COLUMNS = [
    "model", "image_size", *names_of("cost"), *names_of("time", level=1), "batch_size", "timed_precision",
    "machine_busy", "device",
]  # fmt: skip
COUNT_COLUMNS = ["model", "image_size", *names_of("cost")]
FOUND = "found by the search: each cell's row states those of its network"


def models_table() -> list[dict[str, Any]]:
    """A row a registered model."""
    specs = [MODELS.get(name) for name in MODELS.names()]
    return [
        {
            "name": spec.name,
            "paper": spec.paper_name,
            "tables": ", ".join(map(str, spec.tables)),
            "backbone": spec.backbone,
            "head": spec.head.summary,
            "smallest input": BACKBONES.get(spec.backbone).min_size,
            "summary": spec.summary,
        }
        for spec in specs
    ]


def model_card(name: str, classes: int) -> dict[str, Any]:
    """One model at 224 pixels, or at its smallest input when that is larger."""
    from bench.harness.networks import model_cost

    spec = MODELS.get(name)
    size, note = effective_size(BACKBONES.get(spec.backbone), 224)
    about = {"name": spec.name, "paper": spec.paper_name, "summary": spec.summary, "family": spec.family}
    counted = {"cost": FOUND} if _searched(spec) else model_cost(spec, classes, size)
    head = {"head": spec.head.summary, "departs from the published network": spec.departure or "no"}
    trained = {"tuning = head trains": "the whole head, on the frozen backbone's feature maps"}
    if spec.family != "baseline":
        del head["departs from the published network"]
    return {
        **about,
        **_published(spec.publication),
        "backbone": spec.backbone,
        **head,
        **trained,
        "classes": classes,
        "note": note,
        **counted,
    }


def _published(publication: Publication | None) -> dict[str, Any]:
    """What is said of a system of the literature: its metrics with their protocols, what is known and what is not."""
    if publication is None:
        return {}
    figures = [f"{figure.accuracy:.2f} on {figure.dataset} ({figure.protocol})" for figure in publication.figures]
    return {
        "citation": f"{publication.reference} {publication.citation}",
        "published accuracy": "; ".join(figures) or "no row in the paper's tables",
        "known": publication.known,
        "chosen here": publication.chosen,
        "how sure": publication.sureness,
        "doubts": " ".join(publication.doubts) or "none",
    }


def count_rows(patterns: str, classes: int, protocol: Protocol) -> Iterator[dict[str, Any]]:
    """A row a model, as soon as it is counted: its parameters and operations.

    Args:
        patterns: names or shell patterns of models, separated by commas.
        classes: width of the logits.
        protocol: gives the image size.

    Raises:
        UserError: a name that is not known.
    """
    from bench.harness.networks import model_cost

    for name in MODELS.match(patterns):
        spec = MODELS.get(name)
        size, note = effective_size(BACKBONES.get(spec.backbone), protocol.image_size)
        row = {"model": name, "image_size": size, "note": note}
        if _searched(spec):
            yield {**row, "note": "; ".join(filter(None, [note, FOUND]))}
        else:
            yield row | model_cost(spec, classes, size)


def _searched(spec: ModelSpec) -> bool:
    """Whether a fit finds the network, so that it cannot be counted before."""
    from models.recipes.registry import RECIPES

    return RECIPES.get(spec.recipe).searches


def timed_rows(
    rows: list[dict[str, Any]], classes: int, protocol: Protocol, runtime: Runtime
) -> Iterator[dict[str, Any]]:
    """The rows of `count_rows` with the times of a batch, measured in turns, each as soon as it is known.

    Nothing is added where timing is off.

    Args:
        rows: of `count_rows`.
        classes: width of the logits.
        protocol: gives image size, batch size and precision.
        runtime: device, and how times are measured.
    """
    from bench.harness.networks import check_runtime, pick_device
    from bench.harness.timing.parts import Asked
    from bench.harness.timing.times import measured_groups, timing_row

    check_runtime(protocol, runtime)
    device, mode = pick_device(runtime), runtime.timing
    specs = {row["model"]: MODELS.get(row["model"]) for row in rows}
    yield from (row for row in rows if _searched(specs[row["model"]]))
    counted = {row["model"]: row for row in rows if not _searched(specs[row["model"]])}
    asked = [Asked(specs[name], classes, row["image_size"], protocol, device) for name, row in counted.items()]
    for known in measured_groups(asked, None, mode, lambda event: None):
        for network in known:
            yield counted[network.model.name] | timing_row(network, None, mode, lambda event: None)
