"""A genetic search for a network, and a bagging ensemble of what it found: Kabir Anaraki et al., 2019.

The search is Optuna's NSGA-II with one objective, the best validation accuracy of a short fit. What a network scored is
written down; a fit that goes on repeats the search from its seed and reads those scores, so that it makes the same
choices.
"""

from __future__ import annotations

import copy
import shutil
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal, Self, cast

import numpy as np
import optuna
import torch
from optuna.samplers import NSGAIISampler
from torch import Tensor
from typing_extensions import TypedDict

from bench.core.atomic import write_json
from bench.core.errors import DamagedState, UserError
from bench.core.identity import derive_seed
from bench.core.schema import read_json
from models.heads.genome import GenomeHeadConfig
from models.network import Network
from models.predictor import Card, NetworkPredictor, filled_network
from models.recipes import gradient
from models.recipes.callbacks import STATE
from models.recipes.context import FitContext, FitData, FitOutcome

DEPTHS, FILTERS, KERNELS, WIDTHS = (2, 5), (8, 16, 32, 64), (3, 5), (32, 64, 128)
ACTIVATIONS, POOLINGS, OPTIMIZERS = ("relu", "leaky_relu", "elu", "selu"), ("max", "avg"), ("adam", "adamw", "sgd")
MOST_DROPOUT, MOMENTUM, MUTATION = 0.5, 0.9, 0.2
RECORD = "search.json"


class _Scored(TypedDict):
    genome: dict[str, Any]
    score: float
    history: list[dict[str, Any]]


@dataclass(frozen=True)
class Genome:
    """What evolves: a network, and the optimizer that trains it."""

    head: GenomeHeadConfig
    optimizer: Literal["adam", "adamw", "sgd"]

    def trained_by(self, context: FitContext, epochs: int) -> FitContext:
        """The fit with this genome's optimizer; plain SGD at Adam's rate would stand still, so it has momentum."""
        changes: dict[str, Any] = {"epochs": epochs, "optimizer": self.optimizer, "refit": False}
        if self.optimizer == "sgd":
            rate = min(10 * context.protocol.learning_rate, 1e3)
            changes |= {"momentum": max(MOMENTUM, context.protocol.momentum), "learning_rate": rate}
        return replace(context, protocol=context.protocol.model_copy(update=changes))


def fit(context: FitContext) -> FitOutcome:
    """Search with short fits, then fit the found network anew on bootstrap samples of the training images.

    The model's options are the budget: `population` networks a generation, `generations`, a tenth (`share`) of the
    protocol's epochs for each, and `members` of the ensemble, each with all the epochs.

    Raises:
        Interrupted: when asked to stop; the finished networks of the search stay.
        UserError: the protocol asks for a refit, which would leave nothing to choose by.
    """
    if context.protocol.refit:
        raise UserError(f"{context.model.name} cannot be refitted on the validation images; use --set refit=false")
    genome, scored = search(context)
    outcomes = [_member(context, genome, number) for number in range(context.model.options["members"])]
    head = replace(genome.head, members=len(outcomes))
    network = _network(context, head, 0)
    for number, outcome in enumerate(outcomes):
        one = cast(NetworkPredictor, outcome.predictor).network.head
        network.head.members[number].load_state_dict(one.members[0].state_dict())  # type: ignore[index,union-attr]
    predictor = EvolvedPredictor(context.card, network, context.device, head)
    tried = sum(bool(one["history"]) for one in scored)
    return FitOutcome(
        _history(scored, outcomes),
        predictor,
        {"searched_networks": float(tried), "members": float(len(outcomes))},
        [f"the mean of {len(outcomes)} networks ({head.summary}, by {genome.optimizer}), the best of {tried} tried"],
        found=replace(context.model, head=head),
    )


def search(context: FitContext) -> tuple[Genome, list[_Scored]]:
    """The genome with the best validation accuracy, the first of equals, and every network that was tried."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    options = context.model.options
    seed = derive_seed(context.fit_seed, "search")
    # Few generations find nothing by Optuna's own chance of a change, one gene a child.
    sampler = NSGAIISampler(population_size=options["population"], mutation_prob=MUTATION, seed=seed)
    study = optuna.create_study(direction="maximize", sampler=sampler)
    earlier, done = _read(context), list[_Scored]()
    for number in range(options["population"] * options["generations"]):
        trial = study.ask()
        genome = suggested(trial)
        scored = earlier[number] if number < len(earlier) else _score(context, genome, done, number)
        if scored["genome"] != _plain(genome):
            raise DamagedState(f"{context.folder / STATE / RECORD} is of another search")
        study.tell(trial, scored["score"])
        done.append(scored)
        if number >= len(earlier):
            write_json(context.folder / STATE / RECORD, done)
            shutil.rmtree(context.stage(f"network-{number}").folder, ignore_errors=True)
    return _genome(max(done, key=lambda one: one["score"])["genome"]), done


def suggested(trial: optuna.Trial) -> Genome:
    """A genome drawn by the sampler."""
    depth = trial.suggest_int("depth", *DEPTHS)
    filters = [trial.suggest_categorical(f"filters_{block}", FILTERS) for block in range(DEPTHS[1])]
    head = GenomeHeadConfig(
        # Every block has its gene; those beyond the depth stay silent, so that crossing two depths makes sense.
        tuple(filters[:depth]),
        trial.suggest_categorical("kernel", KERNELS),
        cast(Any, trial.suggest_categorical("pooling", POOLINGS)),
        trial.suggest_categorical("width", WIDTHS),
        cast(Any, trial.suggest_categorical("activation", ACTIVATIONS)),
        trial.suggest_float("dropout", 0.0, MOST_DROPOUT, step=0.1),
    )
    return Genome(head, cast(Any, trial.suggest_categorical("optimizer", OPTIMIZERS)))


def _score(context: FitContext, genome: Genome, done: list[_Scored], number: int) -> _Scored:
    """Fit a network for a share of the epochs; one that was tried before keeps its score, one that diverges has 0."""
    for known in done:
        if known["genome"] == _plain(genome):
            return {**known, "history": []}
    epochs = -(-context.protocol.epochs // context.model.options["share"])
    stage = genome.trained_by(context.stage(f"network-{number}"), epochs)
    outcome = gradient.fit(replace(stage, network=_network(context, genome.head, number + 1)))
    history = [{name: _finite(value) for name, value in row.items()} for row in outcome.history]
    diverged = any(row["val_loss"] is None for row in history)
    score = 0.0 if diverged else max(row["val_accuracy"] for row in history)
    return {"genome": _plain(genome), "score": score, "history": history}


def _finite(value: Any) -> Any:
    """A value as JSON has it: None for what is no finite number."""
    return None if isinstance(value, float) and not np.isfinite(value) else value


def _member(context: FitContext, genome: Genome, number: int) -> FitOutcome:
    """Fit the found network from weights of its own on training images drawn with replacement."""
    train = context.data.train
    seed = derive_seed(context.fit_seed, "member", number)
    drawn = np.random.default_rng(seed).integers(0, len(train), len(train))
    stage = genome.trained_by(context.stage(f"member-{number}"), context.protocol.epochs)
    network = _network(context, genome.head, -1 - number)
    data = FitData(train.subset(drawn), context.data.val)
    return gradient.fit(replace(stage, network=network, data=data, fit_seed=seed))


def _network(context: FitContext, head: GenomeHeadConfig, number: int) -> Network:
    """The context's network with another head, drawn by a seed of its own."""
    network = copy.deepcopy(context.network)
    channels = next(layer for layer in network.head.modules() if isinstance(layer, torch.nn.Conv2d)).in_channels
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive_seed(context.fit_seed, "network", number))
        network.head = head.build(channels, context.num_classes).to(context.device)
    return network.to(memory_format=torch.channels_last) if context.protocol.channels_last else network


def _history(scored: list[_Scored], outcomes: list[FitOutcome]) -> list[dict[str, Any]]:
    searched = [
        {**row, "network": number, "member": None} for number, one in enumerate(scored) for row in one["history"]
    ]
    fitted = [{**row, "network": None, "member": number} for number, one in enumerate(outcomes) for row in one.history]
    return [{**row, "epoch": epoch} for epoch, row in enumerate([*searched, *fitted])]


def _read(context: FitContext) -> list[_Scored]:
    """What an earlier, stopped call wrote down. Raises DamagedState where it cannot be read."""
    path = context.folder / STATE / RECORD
    path.parent.mkdir(parents=True, exist_ok=True)
    if not path.is_file():
        return []
    try:
        return read_json(path, list[_Scored], "the fit begins anew")
    except UserError as error:
        raise DamagedState(str(error)) from error


def _plain(genome: Genome) -> dict[str, Any]:
    head = asdict(genome.head)
    return {"head": {**head, "filters": list(head["filters"])}, "optimizer": genome.optimizer}


def _genome(values: dict[str, Any]) -> Genome:
    return Genome(GenomeHeadConfig.read(values["head"]), values["optimizer"])


class EvolvedPredictor(NetworkPredictor):
    """The mean of some networks of a genome that no registry knows; as a network, the logarithm of their mean."""

    kind = "evolved"

    def __init__(self, card: Card, network: Network, device: torch.device, head: GenomeHeadConfig) -> None:
        super().__init__(card, network, device)
        self.head = head

    def state(self) -> tuple[dict[str, Any], dict[str, Tensor]]:
        """The network's state, and the genome that builds it."""
        values, tensors = super().state()
        return {**values, "head": {**asdict(self.head), "filters": list(self.head.filters)}}, tensors

    @classmethod
    def restore(cls, card: Card, values: dict[str, Any], tensors: dict[str, Tensor], device: torch.device) -> Self:
        """The predictor of a state."""
        head = GenomeHeadConfig.read(values["head"])
        return cls(card, filled_network(card, values["group_norms"], tensors, device, head), device, head)
