"""Enumerate the cells of a grid, and settle before the first one trains whether each can run."""

from __future__ import annotations

from dataclasses import dataclass, field

from bench.core.cellspec import CENTRALIZED, CellSpec
from bench.core.config import Protocol
from bench.core.errors import UserError
from bench.data import registry as datasets
from bench.data.splits import expand
from bench.data.table import Table
from bench.harness.planning.contradictions import refuse_cell, refuse_unmeant
from bench.harness.regimes import REGIMES
from models.backbones.registry import BACKBONES, effective_size
from models.recipes.registry import OWN_PROTOCOL, RECIPES
from models.registry import MODELS, ModelSpec
from models.weights.initial import ResolvedWeights, resolve_all


@dataclass(frozen=True)
class Request:
    """What `bench run` was asked for, as it was typed."""

    models: str
    datasets: str
    protocol: Protocol
    regimes: str = "centralized,fedavg"
    seeds: str = "3"
    split: str = "grouped"
    analyses: str | None = None

    def as_asked(self) -> dict[str, str]:
        """What was typed but for the protocol, by option."""
        asked = {name: getattr(self, name) for name in ("models", "datasets", "regimes", "seeds", "split")}
        return asked if self.analyses is None else {**asked, "with": self.analyses}


@dataclass(frozen=True)
class Setup:
    """What a cell's network and inputs are built from, whoever holds the images: the harness, a sweep or a site.

    Attributes:
        image_size: what the backbone is given, pixels: the protocol's, or the backbone's smallest.
        size_note: says so when they differ, and where a network without ImageNet weights starts; "" otherwise.
        statistics: BatchNorm statistics of a random, frozen backbone that were estimated elsewhere, as little-endian
            float32; empty: they are estimated from the cell's own training images.
    """

    spec: CellSpec
    model: ModelSpec
    weights: ResolvedWeights
    image_size: int
    size_note: str
    statistics: bytes = field(default=b"", kw_only=True)

    @property
    def protocol(self) -> Protocol:
        """The training settings."""
        return self.spec.protocol

    @property
    def random_backbone(self) -> bool:
        """Whether the backbone is frozen with random weights, so that its BatchNorm statistics must be estimated."""
        return self.protocol.tuning == "head" and not self.weights.pretrained


@dataclass(frozen=True)
class PlannedCell(Setup):
    """A cell that can run; `key` is what it is stored under."""

    key: str


@dataclass(frozen=True)
class Plan:
    """The cells in the order in which they run, and the tables that they read.

    Attributes:
        absent: registered datasets that are not available, with the command that brings each.
        left_out: models and regimes that patterns brought together and that do not go together, a sentence each.
        asked: what it was made from; None where several requests went into it.
    """

    cells: list[PlannedCell]
    tables: dict[str, Table]
    absent: dict[str, str]
    left_out: tuple[str, ...] = ()
    asked: Request | None = None


def make_plan(request: Request, tables: dict[str, Table] | None = None) -> Plan:
    """Expand the patterns and check every cell.

    Cells of one dataset, fold and seed stand together, so that they share decoded images and feature maps.

    Args:
        request: what was asked for.
        tables: datasets that were read under the same protocol, by name; those read here are added.

    Raises:
        UserError: an unknown name, a dataset that is not available, weights that cannot be had, a bad seed list,
            a model and a regime named outright that do not go together, or settings or a dataset that contradict them.
    """
    models = MODELS.match(request.models)
    regimes = REGIMES.match(request.regimes)
    seeds = parse_seeds(request.seeds)
    apart = choose_pairs(request, models, regimes)
    names, absent = choose_datasets(request.datasets)
    weights = resolve_all(request.protocol.weights, [MODELS.get(name) for name in models])
    read = {} if tables is None else tables
    for name in names:
        if name not in read:
            read[name] = datasets.load(name, request.protocol)
    specs = [
        CellSpec(model, name, split, regime, request.protocol, seed)
        for name, table in ((name, read[name]) for name in names)
        for split in expand(table, request.split)
        for seed in seeds
        for model in models
        for regime in regimes
        if (model, regime) not in apart
    ]
    possible, sentences = choose_possible(request, specs, read)
    cells = [plan_cell(spec, read[spec.dataset], weights[spec.model]) for spec in possible]
    return Plan(cells, {name: read[name] for name in names}, absent, (*apart.values(), *sentences), request)


def choose_possible(
    request: Request, specs: list[CellSpec], tables: dict[str, Table]
) -> tuple[list[CellSpec], list[str]]:
    """The cells that can run, and a sentence for each reason why others cannot; patterns leave those out.

    Raises:
        UserError: a dataset and a regime were named outright and do not go together, or nothing is left.
    """
    named = {part.strip() for part in f"{request.datasets},{request.regimes}".split(",")}
    left: list[CellSpec] = []
    reasons: dict[str, None] = {}
    for spec in specs:
        try:
            refuse_cell(spec, tables[spec.dataset])
            left.append(spec)
        except UserError as error:
            if {spec.dataset, spec.regime} <= named:
                raise
            reasons[f"{spec.dataset} under {spec.regime}: {error}"] = None
    if specs and not left:
        raise UserError(f"nothing is left to run: {next(iter(reasons))}")
    return left, list(reasons)


def together(*plans: Plan) -> Plan:
    """The cells of several plans, each once, in their order."""
    cells = {cell.key: cell for plan in plans for cell in plan.cells}
    tables = {name: table for plan in plans for name, table in plan.tables.items()}
    absent = {name: hint for plan in plans for name, hint in plan.absent.items()}
    left_out = dict.fromkeys(sentence for plan in plans for sentence in plan.left_out)
    return Plan(list(cells.values()), tables, absent, tuple(left_out))


def choose_pairs(request: Request, models: list[str], regimes: list[str]) -> dict[tuple[str, str], str]:
    """Models and regimes that do not go together, each with the reason; the default regimes are a pattern.

    Args:
        request: what the user asked for.
        models, regimes: the names that its patterns matched.

    Raises:
        UserError: both were named outright, or nothing else is left.
    """
    apart = {(model, regime): misfit(MODELS.get(model), regime) for model in models for regime in regimes}
    apart = {pair: reason for pair, reason in apart.items() if reason}
    named = {part.strip() for part in f"{request.models},{request.regimes}".split(",")}
    by_default = request.regimes == Request.regimes
    for (model, regime), reason in apart.items():
        if len(apart) == len(models) * len(regimes) or ({model, regime} <= named and not by_default):
            raise UserError(f"{reason}; use --regimes {CENTRALIZED}")
    return apart


def misfit(model: ModelSpec, regime: str) -> str:
    """Why a model cannot be trained under a regime, in a sentence; "" where it can."""
    recipe = RECIPES.get(model.recipe)
    own = model.options.get(OWN_PROTOCOL, {})
    if regime != CENTRALIZED and own:
        settings = ", ".join(f"{name} = {value}" for name, value in own.items())
        return f"{model.name} is fitted with {settings}, which clients cannot follow: not under {regime}"
    if regime == CENTRALIZED or recipe.federated:
        return ""
    return f"{model.name} is fitted by the recipe {recipe.name}, which clients cannot follow: not under {regime}"


def plan_cell(spec: CellSpec, table: Table, weights: ResolvedWeights) -> PlannedCell:
    """Settle a cell's input size and key."""
    setup = settle(spec, weights)
    return PlannedCell(**vars(setup), key=spec.key(setup.model.identity(), table.fingerprint(), weights.identity))


def settle(spec: CellSpec, weights: ResolvedWeights, statistics: bytes = b"") -> Setup:
    """Settle a cell's model and input size, for which no image is needed.

    Args:
        weights: the model's initial weights.
        statistics: see `Setup`.

    Raises:
        UserError: the model cannot be trained under the regime.
    """
    model = MODELS.get(spec.model)
    if reason := misfit(model, spec.regime):
        raise UserError(f"{reason}; use {CENTRALIZED}")
    if RECIPES.get(model.recipe).sees_test and not model.caution:
        raise UserError(f"{model.name} is fitted on test images ({model.recipe}), so its ModelSpec must say a caution")
    refuse_unmeant(spec)
    backbone = BACKBONES.get(model.backbone)
    size, note = effective_size(backbone, spec.protocol.image_size)
    scratch = "starts from random weights, as the published network does" if backbone.from_scratch else ""
    asked = spec.protocol.weights == "imagenet"
    notes = [note, f"{model.name} {scratch}" if scratch and asked else ""]
    return Setup(spec, model, weights, size, "; ".join(filter(None, notes)), statistics=statistics)


def parse_seeds(text: str) -> list[int]:
    """ "3" means 0, 1, 2; "0,7" means those two; "7," means 7 alone."""
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isdecimal() for part in parts if part) or not any(parts):
        raise UserError(f"--seeds takes a count (3) or a list (0,7), not {text!r}")
    if len(parts) == 1:
        count = int(parts[0])
        if not 1 <= count <= 1000:
            raise UserError(f"--seeds {count}: a run takes 1 to 1000 seeds; a single seed number is written `{count},`")
        return list(range(count))
    return list(dict.fromkeys(int(part) for part in parts if part))


def choose_datasets(patterns: str) -> tuple[list[str], dict[str, str]]:
    """The datasets available that the patterns name, and the others with the way to bring them.

    Raises:
        UserError: for an absent dataset that is named outright, or when nothing is left.
    """
    wanted = datasets.DATASETS.match(patterns)
    known = set(datasets.available())
    outright = {part.strip() for part in patterns.split(",")}
    absent = {name: datasets.DATASETS.get(name).hint for name in wanted if not is_available(name, known)}
    for name in outright & absent.keys():
        raise UserError(f"dataset {name} is not on this machine; {absent[name]}")
    return [name for name in wanted if name not in absent], absent


def is_available(name: str, known: set[str]) -> bool:
    """Whether a dataset can be read now; names such as `medmnist:NAME` are not in the listing."""
    return name in known or datasets.locate(name) is not None
