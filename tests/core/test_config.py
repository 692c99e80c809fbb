"""Protocols: presets, files, overrides, and which field is identity."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from bench.core.cellspec import CellSpec
from bench.core.config import Federation, Protocol, Runtime, load_protocol
from bench.core.errors import UserError

IDENTITY = {
    "image_size", "epochs", "batch_size", "optimizer", "learning_rate", "weight_decay", "momentum", "schedule",
    "schedule_factor", "schedule_patience", "early_stopping_patience", "tuning", "weights", "normalization",
    "precision", "augmentation", "feature_views", "refit", "channels_last", "synthetic_images",
    "bootstrap_resamples", "timing_batches", "timing_warmup", "timing_batch_size", "federated",
    "label_smoothing", "class_balance", "mix", "mix_alpha", "ema_decay", "layer_decay", "engine",
}  # fmt: skip
RUNTIME = {
    "device", "threads", "progress", "wandb", "executor", "jobs", "address", "per_gpu", "timing", "keep_epochs",
    "compile",
}  # fmt: skip


def cell(protocol: Protocol, regime: str = "centralized") -> CellSpec:
    return CellSpec("deepmedix", "phantom-brain", "grouped", regime, protocol, 0)


def key(spec: CellSpec) -> str:
    return spec.key({"backbone": "b"}, "fingerprint", "weights")


def test_every_field_is_either_identity_or_runtime() -> None:
    assert set(Protocol.model_fields) == IDENTITY
    assert set(Runtime.model_fields) == RUNTIME


@pytest.mark.parametrize("field", sorted(IDENTITY - {"federated", "weights"}))
def test_an_identity_field_changes_the_key(field: str) -> None:
    plain = Protocol()
    other = {"optimizer": "sgd", "schedule": "none", "tuning": "head", "normalization": "unit", "precision": "bf16",
             "augmentation": "none", "channels_last": False, "learning_rate": 0.5, "schedule_factor": 0.5,
             "refit": True, "weight_decay": 0.5, "momentum": 0.5,
             "label_smoothing": 0.1, "class_balance": "loss", "mix": "mixup", "ema_decay": 0.9,
             "layer_decay": 0.5, "synthetic_images": 500, "engine": "compile"}.get(field)  # fmt: skip
    changed = plain.model_copy(update={field: getattr(plain, field) + 1 if other is None else other})
    assert key(cell(changed)) != key(cell(plain))


def test_weights_count_by_content_and_federation_only_where_it_is_used() -> None:
    plain, renamed = Protocol(), Protocol(weights="elsewhere/same.safetensors")
    assert key(cell(plain)) == key(cell(renamed))
    federated = Protocol(federated=Federation(clients=9))
    assert key(cell(plain)) == key(cell(federated))
    assert key(cell(plain, "fedavg")) != key(cell(federated, "fedavg"))


def test_variants_see_the_same_data_and_start() -> None:
    first = cell(Protocol())
    variant = CellSpec("deepmedix-wide", "phantom-brain", "grouped", "fedavg", Protocol(epochs=3), 0)
    other_seed = CellSpec("deepmedix", "phantom-brain", "grouped", "centralized", Protocol(), 1)
    assert (first.data_seed, first.fit_seed) == (variant.data_seed, variant.fit_seed)
    assert first.data_seed != other_seed.data_seed
    assert first.data_seed != first.fit_seed


def test_the_paper_protocol_is_the_papers_recipe() -> None:
    paper = load_protocol("paper")
    assert (paper.epochs, paper.batch_size, paper.early_stopping_patience, paper.image_size) == (50, 32, 15, 224)
    assert (paper.optimizer, paper.learning_rate, paper.tuning, paper.weights) == ("adam", 1e-3, "full", "imagenet")
    assert (paper.schedule, paper.schedule_patience) == ("plateau", 2)
    assert paper.schedule_factor == pytest.approx(1 / 3)


def test_overrides_reach_nested_fields_and_leave_presets_alone() -> None:
    changed = load_protocol("demo", ["federated.clients=3", "epochs=2", "tuning=full"])
    assert (changed.federated.clients, changed.epochs, changed.tuning) == (3, 2, "full")
    assert load_protocol("demo").federated.clients == 5


def test_a_file_starts_from_its_base(tmp_path: Path) -> None:
    file = tmp_path / "mine.toml"
    file.write_text('base = "demo"\nepochs = 7\n[federated]\nclients = 2\n')
    mine = load_protocol(str(file))
    assert (mine.image_size, mine.epochs, mine.federated.clients) == (64, 7, 2)


@pytest.mark.parametrize(
    ("overrides", "sentence"),
    [
        (["epoch=3"], "no field is called 'epoch'; did you mean epochs"),
        (["epochs=0"], "epochs = 0 will not do: input should be greater than or equal to 1"),
        (["epochs=many"], "epochs = 'many' will not do"),
        (["tuning=hed"], "should be 'full' or 'head'"),
        (["federated.client=3"], "no field is called 'federated.client'; did you mean clients"),
        (["epochs"], "--set takes field=value"),
    ],
)
def test_bad_overrides_get_one_sentence(overrides: list[str], sentence: str) -> None:
    with pytest.raises(UserError, match=re.escape(sentence)):
        load_protocol("demo", overrides)


def test_bad_files_get_one_sentence(tmp_path: Path) -> None:
    broken = tmp_path / "broken.toml"
    broken.write_text("epochs = = 3")
    with pytest.raises(UserError, match=r"broken\.toml is not valid TOML"):
        load_protocol(str(broken))
    with pytest.raises(UserError, match="cannot be read"):
        load_protocol(str(tmp_path / "absent.toml"))
    with pytest.raises(UserError, match="no protocol is called 'papr'"):
        load_protocol("papr")


@pytest.mark.parametrize(
    "setting",
    ["learning_rate=inf", "learning_rate=nan", "epochs=1e26", "bootstrap_resamples=1000000000000", "batch_size=9e18",
     "federated.local_learning_rate=inf", "federated.clients=10000000000"],
)  # fmt: skip
def test_absurd_settings_are_refused(setting: str) -> None:
    with pytest.raises(UserError, match=setting.partition("=")[0]):
        load_protocol("demo", [setting])
