"""Keys of stored cells: today's are pinned, and a field that comes later changes none of them at its default."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import pytest
from pydantic import Field

from bench.core import cellspec
from bench.core.cellspec import CellSpec
from bench.core.config import Federation, Protocol, load_protocol
from bench.core.errors import UserError
from bench.core.identity import without_defaults
from bench.data import registry as datasets
from bench.harness.plan import plan_cell
from bench.harness.regimes import REGIMES
from bench.store.cells import StoredCell
from models.heads.config import HeadConfig
from models.registry import MODELS, ModelSpec
from models.weights.initial import resolve

# What version 1 put into a key. A field beyond these comes with a line in `cellspec.ADDED`, or in the head's `added`.
FIRST_PROTOCOL = {
    "image_size", "epochs", "batch_size", "optimizer", "learning_rate", "weight_decay", "momentum", "schedule",
    "schedule_factor", "schedule_patience", "early_stopping_patience", "tuning", "weights", "normalization",
    "precision", "augmentation", "feature_views", "refit", "channels_last", "synthetic_images",
    "bootstrap_resamples", "timing_batches", "timing_warmup", "timing_batch_size", "federated",
}  # fmt: skip
FIRST_FEDERATION = {
    "clients", "rounds", "local_epochs", "local_steps", "participation", "dropout_rate", "partition", "alpha", "shards",
    "local_learning_rate", "svrg_clip", "straggler_rate", "batch_norm", "server_learning_rate", "server_momentum",
    "server_beta_1", "server_beta_2", "server_tau", "proximal_mu", "trimmed", "malicious", "compression",
    "compression_ratio", "privacy", "noise_multiplier", "clip_norm", "delta", "secure_aggregation", "secure_range",
}  # fmt: skip
FIRST_HEAD = {"pooling", "skip", "dropout_modules", "widths", "dropout_rate"}

# Keys of cells as they were stored before any field was added: model, dataset, split, regime, preset, settings, seed.
STORED = {
    ("deepmedix", "phantom-brain", "grouped", "centralized", "demo", (), 0): "3ab5c76eff4c49f29e5a",
    ("deepmedix", "phantom-brain", "grouped", "fedavg", "demo", (), 0): "36db91b66548397d5d23",
    (
        "deepmedix-wide-noskip-nodropout", "phantom-brain", "image", "fedavg-svrg", "demo",
        ("federated.clients=3", "tuning=full"), 2,
    ): "e10f5e6832d706dad8d1",
    ("deepmedix-gmp", "phantom-skin", "grouped", "centralized", "paper", ("weights=none",), 0): "f71b1f002443accd7412",
    ("deepmedix", "phantom-skin", "grouped", "twin", "paper", ("weights=none",), 1): "1239e08f993b196e5bc8",
    ("resnet18", "phantom-skin", "grouped", "centralized", "demo", ("tuning=full",), 0): "c00565df1521ee9654c4",
    (
        "swin_t", "phantom-brain", "grouped", "local-only", "paper", ("weights=none", "epochs=3"), 7,
    ): "4caada2447fa65990961",
    ("deepmedix-wide@resnet18", "phantom-brain", "grouped", "centralized", "demo", (), 0): "5dac5bca12d8acf14223",
    ("linear@squeezenet1_1", "phantom-brain", "grouped", "centralized", "demo", (), 0): "836bd8419e8b5f5e3f40",
}  # fmt: skip
Named = tuple[str, str, str, str, str, tuple[str, ...], int]


def key_of(named: Named, protocol: Protocol | None = None) -> str:
    model, dataset, split, regime, preset, settings, seed = named
    protocol = protocol or load_protocol(preset, list(settings))
    spec = CellSpec(model, dataset, split, regime, protocol, seed)
    weights = resolve(protocol.weights, MODELS.get(model))
    return plan_cell(spec, datasets.load(dataset, protocol), weights).key


@pytest.mark.parametrize("named", STORED, ids=lambda named: f"{named[0]}-{named[3]}-{named[4]}")
def test_stored_cells_keep_their_keys(named: Named) -> None:
    assert key_of(named) == STORED[named]


def later(prefix: str) -> set[str]:
    """Names of fields in `cellspec.ADDED` right below a prefix."""
    below = {name.removeprefix(prefix) for name in cellspec.ADDED if name.startswith(prefix)}
    return {name for name in below if "." not in name}


def test_a_field_beyond_the_first_version_is_in_the_frozen_table() -> None:
    assert set(Protocol.model_fields) == FIRST_PROTOCOL | later("protocol.")
    assert set(Federation.model_fields) == FIRST_FEDERATION | later("protocol.federated.")
    first_cell = {"model", "dataset", "split", "regime", "protocol", "seed"}
    assert {field.name for field in dataclasses.fields(CellSpec)} == first_cell | later("")
    assert {field.name for field in dataclasses.fields(HeadConfig)} == FIRST_HEAD | set(HeadConfig.added)


class LaterFederation(Federation):
    warm_rounds: int = Field(2, ge=0)


class LaterProtocol(Protocol):
    some_later_field: float = Field(0.0, ge=0)
    federated: LaterFederation = LaterFederation()


@pytest.fixture
def with_later_fields(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(cellspec.ADDED, "protocol.some_later_field", 0.0)
    monkeypatch.setitem(cellspec.ADDED, "protocol.federated.warm_rounds", 2)


@pytest.mark.usefixtures("with_later_fields")
@pytest.mark.parametrize("named", [named for named in STORED if named[3] in ("centralized", "fedavg")][:3])
def test_a_later_field_counts_only_away_from_its_default(named: Named) -> None:
    values = load_protocol(named[4], list(named[5])).model_dump()
    assert key_of(named, LaterProtocol(**values)) == STORED[named]
    assert key_of(named, LaterProtocol(**values, some_later_field=0.1)) != STORED[named]
    federated = {**values["federated"], "warm_rounds": 3}
    counts = key_of(named, LaterProtocol(**{**values, "federated": federated})) != STORED[named]
    assert counts == (named[3] == "fedavg")


def test_the_table_is_what_counts_and_not_the_fields_own_default(monkeypatch: pytest.MonkeyPatch) -> None:
    """A default that changes later gives other cells, and must give other keys."""
    monkeypatch.setitem(cellspec.ADDED, "protocol.some_later_field", 0.05)
    monkeypatch.setitem(cellspec.ADDED, "protocol.federated.warm_rounds", 2)
    named = next(iter(STORED))
    values = load_protocol(named[4]).model_dump()
    assert key_of(named, LaterProtocol(**values)) != STORED[named]
    assert key_of(named, LaterProtocol(**values, some_later_field=0.05)) == STORED[named]


def test_a_heads_later_field_counts_only_away_from_its_default() -> None:
    @dataclass(frozen=True)
    class Later(HeadConfig):
        temperature: float = 1.0
        added: ClassVar[Mapping[str, Any]] = {"temperature": 1.0}

    Later.__qualname__ = HeadConfig.__qualname__
    first, plain, warm = (ModelSpec("m", "resnet18", head) for head in (HeadConfig(), Later(), Later(temperature=2.0)))
    assert plain.identity() == first.identity()
    assert warm.identity() != first.identity()


def test_only_what_is_named_is_left_out() -> None:
    values = {"a": 1, "b": {"c": [1, 2], "d": 0.0}, "e": {"c": [1, 2]}}
    assert without_defaults(values, {}) == values
    assert without_defaults(values, {"b.c": (1, 2), "b.d": 1.0, "a": 2}) == {**values, "b": {"d": 0.0}}
    assert values["b"] == {"c": [1, 2], "d": 0.0}


def test_todays_words_make_the_keys_of_earlier_ones_and_earlier_ones_are_read() -> None:
    """`local` became `local-only`, and the policy `local` became `personal`."""
    protocol = load_protocol("demo", ["federated.batch_norm=personal"])
    spec = CellSpec("m", "d", "grouped", "local-only", protocol, 0)
    assert spec.key({}, "", "") == "5e2e9073ef14316312d5"
    earlier = {**spec.as_dict(), "regime": "local"}
    earlier["protocol"] = {
        **earlier["protocol"],
        "federated": {**earlier["protocol"]["federated"], "batch_norm": "local"},
    }
    assert cellspec.with_todays_words(earlier) == spec.as_dict()
    assert cellspec.with_todays_words(spec.as_dict()) == spec.as_dict()
    assert StoredCell("key", Path(), earlier, "missing", None, "").spec == spec.as_dict()


def test_earlier_words_on_the_command_line_name_the_new_ones() -> None:
    with pytest.raises(UserError, match="the regime 'local' is called 'local-only' now"):
        REGIMES.match("fedavg,local")
    with pytest.raises(UserError, match=r"federated.batch_norm = 'local' will not do: .*local is called personal now"):
        load_protocol("demo", ["federated.batch_norm=local"])
