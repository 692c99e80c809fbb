"""The training recipe and the way it is run, checked when they are made.

`Protocol` is identity: two cells that differ in one of its fields are different cells. `Runtime` is not: it may change
between two starts of one run.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from bench.core.errors import UserError
from bench.core.registry import near_matches
from bench.core.schema import read_toml

Partition = Literal["iid", "dirichlet", "shards", "quantity", "site"]
BatchNormPolicy = Literal["average", "personal", "frozen", "group"]
Compression = Literal["none", "float16", "int8", "topk"]
TimingMode = Literal["off", "quick", "full"]
Precision = Literal["32", "bf16", "fp16"]
Engine = Literal["torch", "compile", "onnxruntime"]


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True, allow_inf_nan=False)

    def __hash__(self) -> int:
        """Of the values as JSON: some of them are tables, which Python does not hash."""
        return hash(self.model_dump_json())


class Federation(_Frozen):
    """How a federated regime divides the data and talks (paper, section 3.4 and algorithm 1)."""

    clients: int = Field(5, ge=1, le=1_000_000, description="number of clients")
    rounds: int | None = Field(
        None, ge=1, le=1_000_000, description="communication rounds; none: as many as the protocol's epochs"
    )
    local_epochs: int = Field(1, ge=1, le=100_000, description="passes over a client's data a round")
    local_steps: int | None = Field(
        None, ge=1, le=10_000_000, description="steps a round instead of whole epochs (the paper's E)"
    )
    participation: float = Field(1.0, gt=0, le=1, description="share of the clients asked in a round")
    dropout_rate: float = Field(0.0, ge=0, lt=1, description="chance that an asked client does not answer")
    partition: Partition = Field("iid", description="how groups are dealt to clients")
    alpha: float = Field(0.5, gt=0, le=1e9, description="Dirichlet concentration of `dirichlet` and `quantity`")
    shards: int = Field(2, ge=1, le=1_000_000, description="label shards a client of `shards`")
    local_learning_rate: float = Field(0.1, gt=0, le=1e3, description="the clients' SGD step (section 3.4)")
    svrg_clip: float | None = Field(
        1.0, gt=0, le=1e9, description="largest norm of a corrected gradient; none: as printed"
    )
    straggler_rate: float = Field(0.0, ge=0, lt=1, description="chance that a client does a random part of its steps")
    batch_norm: BatchNormPolicy = Field(
        "average", description="running statistics: averaged, the client's own, unchanged"
    )
    server_learning_rate: float | None = Field(
        None, gt=0, le=1e3, description="server's step; none: 1, or 0.01 if adaptive"
    )
    server_momentum: float = Field(0.9, ge=0, lt=1, description="of fedavgm")
    server_beta_1: float = Field(0.9, ge=0, lt=1, description="of fedadam and fedyogi")
    server_beta_2: float = Field(0.99, ge=0, lt=1, description="of fedadam and fedyogi")
    server_tau: float = Field(1e-3, gt=0, le=1e9, description="adaptivity of fedadam, fedyogi and fedadagrad")
    proximal_mu: float = Field(0.01, ge=0, le=1e9, description="fedprox's pull to the round's model")
    trimmed: float = Field(0.2, ge=0, lt=0.5, description="share that fedtrimmedavg cuts at either end")
    malicious: int = Field(1, ge=0, le=1_000_000, description="hostile clients that krum reckons with")
    compression: Compression = Field("none", description="of the clients' updates")
    compression_ratio: float = Field(0.1, gt=0, le=1, description="share of the numbers that topk sends")
    privacy: Literal["none", "central", "local"] = Field("none", description="who clips and adds noise")
    noise_multiplier: float = Field(1.0, ge=0, le=1e9, description="noise deviation over the largest clipped update")
    clip_norm: float | None = Field(1.0, gt=0, le=1e9, description="largest norm of an update; none: not clipped")
    delta: float = Field(1e-5, gt=0, lt=1, description="the delta at which epsilon is stated")
    secure_aggregation: bool = Field(False, description="SecAgg+: the server sees sums only")
    secure_range: float = Field(8.0, gt=0, le=1e9, description="SecAgg+ carries numbers within plus and minus this")
    options: dict[str, dict[str, bool | int | float | str]] = Field(
        {}, description="further settings of an algorithm, by its name"
    )

    @field_validator("batch_norm", mode="before")
    @classmethod
    def _renamed(cls, value: Any) -> Any:
        if value == "local":
            raise ValueError("the policy local is called personal now")
        return value


# What decides how the centralized twin trains: the clients' rate, and how many images the federated fit is expected to
# train on. The other fields may differ between a federated cell and the twin that it is held against.
TWIN_FIELDS = (
    "clients", "partition", "alpha", "shards", "rounds", "local_epochs", "local_steps", "participation",
    "dropout_rate", "straggler_rate", "local_learning_rate",
)  # fmt: skip


class Protocol(_Frozen):
    """A training recipe. The defaults are the paper's (section 4; reading rows 1, 2, 7)."""

    image_size: int = Field(224, ge=16, le=1024, description="side of the square input, pixels")
    epochs: int = Field(50, ge=1, le=1_000_000, description="passes over the training part at most")
    batch_size: int = Field(32, ge=2, le=1_000_000, description="images a step; the last incomplete batch is dropped")
    optimizer: Literal["adam", "adamw", "sgd"] = Field("adam", description="optimizer")
    learning_rate: float = Field(1e-3, gt=0, le=1e3, description="initial step size")
    weight_decay: float = Field(0.0, ge=0, le=1e3, description="L2 penalty (decoupled in adamw)")
    momentum: float = Field(0.0, ge=0, lt=1, description="momentum of sgd")
    schedule: Literal["plateau", "cosine", "none"] = Field("plateau", description="learning-rate schedule")
    schedule_factor: float = Field(1 / 3, gt=0, lt=1, description="plateau: the rate is multiplied by this")
    schedule_patience: int = Field(
        2, ge=0, le=1_000_000, description="plateau: epochs without a better validation accuracy"
    )
    early_stopping_patience: int = Field(
        15, ge=1, le=1_000_000, description="stop after as many epochs without a better one"
    )
    tuning: Literal["full", "head"] = Field("full", description="train the whole network, or the head alone")
    weights: str = Field("imagenet", min_length=1, description="imagenet, none, or a .safetensors/.pth file")
    normalization: Literal["weights", "unit"] = Field("weights", description="the weights' mean and std, or 0-1")
    precision: Precision = Field(
        "32", description="of training and of answers; 16 bits by autocast: fp16 on GPUs, bf16 on CPUs too"
    )
    engine: Engine = Field("torch", description="computes the evaluated backbone: its maps and the answers")
    augmentation: Literal["auto", "thirtyfold", "none"] = Field(
        "auto",
        description="by kind of image (flips, rotation, colour jitter); or one of thirty filters and distortions",
    )
    refit: bool = Field(False, description="centralized: fit again with the validation images once the epoch is chosen")
    feature_views: int = Field(
        1, ge=1, le=32, description="tuning = head: maps stored of a training image, as it is and augmented"
    )
    label_smoothing: float = Field(0.0, ge=0, lt=1, description="share of a label that is spread over all classes")
    class_balance: Literal["none", "loss", "resample"] = Field(
        "none", description="rare classes count more in the loss, or are drawn more often"
    )
    mix: Literal["none", "mixup", "cutmix"] = Field("none", description="training images mixed in pairs")
    mix_alpha: float = Field(0.4, gt=0, description="both parameters of the mixture's beta distribution")
    ema_decay: float = Field(0.0, ge=0, lt=1, description="moving average of the weights that is evaluated; 0: none")
    layer_decay: float = Field(1.0, gt=0, le=1, description="factor of the rate a block, from the head backwards")
    channels_last: bool = Field(True, description="memory format of convolutions")
    synthetic_images: int = Field(600, ge=30, le=100_000, description="images that an embedded dataset draws")
    bootstrap_resamples: int = Field(
        1000, ge=100, le=1_000_000, description="parts left out behind a 95 % interval, 200 at most"
    )
    timing_batches: int = Field(30, ge=30, le=1_000_000, description="timed batches, after the warm-up")
    timing_warmup: int = Field(10, ge=10, le=1_000_000, description="batches before timing starts")
    timing_batch_size: int = Field(32, ge=2, le=1_000_000, description="images in a timed batch")
    federated: Federation = Field(Federation(), description="what the federated regimes use")


# What the gradient recipe alone knows; the clients of a federated regime take plain steps.
CENTRALIZED_FIELDS = ("label_smoothing", "class_balance", "mix", "ema_decay", "layer_decay")


class Runtime(_Frozen):
    """How a run is carried out; none of it changes a result's identity."""

    device: str = Field("auto", description="auto, cpu, cuda or cuda:N")
    threads: int = Field(
        0, ge=0, le=1024, description="CPU threads of torch a cell; 0: all cores, shared by the jobs; one on Ray"
    )
    progress: Literal["auto", "rich", "plain", "none"] = Field("auto", description="display")
    wandb: Literal["off", "offline", "online"] = Field("off", description="Weights & Biases")
    executor: Literal["local", "ray"] = Field("local", description="this machine's processes, or a Ray cluster")
    jobs: int = Field(1, ge=1, le=256, description="local: cells that run side by side, in a process each")
    address: str | None = Field(None, description="ray: the cluster's address; none: a cluster of this machine alone")
    per_gpu: int = Field(1, ge=1, le=64, description="ray: cells that share one GPU")
    compile: bool = Field(False, description="train whole networks compiled, on a CPU where that pays")
    keep_epochs: bool = Field(False, description="keep every epoch's weights, for the analysis optimism")
    timing: TimingMode = Field("full", description="batch times: off, quick (at most 10 batches, no memory), or full")


PRESETS: dict[str, dict[str, Any]] = {
    "paper": {},
    # Small enough for two CPU cores without network: features of the backbone are computed once, heads are trained on
    # them. Random weights, so its metrics show that the machinery works and say little of the models.
    "demo": {
        "image_size": 64,
        "epochs": 20,
        "batch_size": 16,
        "early_stopping_patience": 10,
        "tuning": "head",
        "weights": "none",
        "synthetic_images": 240,
        "timing_batch_size": 4,
    },
}


def load_protocol(name_or_file: str, overrides: list[str] | None = None) -> Protocol:
    """Make a protocol from a preset's name or a TOML file, with `field=value` overrides.

    A TOML file may start from a preset by `base = "demo"`; nested fields are tables or dotted (`federated.clients=10`).

    Raises:
        UserError: unknown preset or field (near matches offered), unreadable file, or a value out of bounds.
    """
    values = _base_values(name_or_file)
    for override in overrides or []:
        _set_dotted(values, override)
    return _validated(values, name_or_file)


def protocol_of(given: str | Path | Mapping[str, Any] | Protocol) -> Protocol:
    """A protocol from whatever names one in Python: a preset's name, a TOML file, fields over a "base", or itself.

    Raises:
        UserError: as `load_protocol`.
    """
    if isinstance(given, Protocol):
        return given
    if isinstance(given, Mapping):
        return _validated(_over_base(dict(given), "the protocol"), "of these fields")
    return load_protocol(str(given))


def _base_values(name_or_file: str) -> dict[str, Any]:
    if name_or_file in PRESETS:
        return dict(PRESETS[name_or_file])
    path = Path(name_or_file)
    if path.suffix != ".toml":
        raise UserError(f"no protocol is called {name_or_file!r}; there are {', '.join(PRESETS)}, or name a .toml file")
    return _over_base(read_toml(path, dict[str, Any], "name a protocol's TOML file"), str(path))


def _over_base(values: dict[str, Any], source: str) -> dict[str, Any]:
    base = values.pop("base", "paper")
    if base not in PRESETS:
        raise UserError(f"{source}: base = {base!r} is no preset; there are {', '.join(PRESETS)}")
    return {**PRESETS[base], **values}


def _set_dotted(values: dict[str, Any], override: str) -> None:
    name, separator, text = override.partition("=")
    if not separator or not name.strip():
        raise UserError(f"--set takes field=value, not {override!r}; for example --set epochs=10")
    *tables, field = name.strip().split(".")
    for table in tables:
        inner = values.get(table)
        values[table] = dict(inner) if isinstance(inner, dict) else {}
        values = values[table]
    values[field] = _scalar(text.strip())


def _scalar(text: str) -> Any:
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except (ValueError, RecursionError):
        # Not TOML, a number of more digits than Python reads, or brackets without end: what it is not, the field says.
        return text


def _validated(values: dict[str, Any], source: str) -> Protocol:
    try:
        return Protocol.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        raise UserError(_explain(first, source)) from error


def _explain(problem: Any, source: str) -> str:
    *tables, field = [str(part) for part in problem["loc"]]
    fields = Federation.model_fields if tables == ["federated"] else Protocol.model_fields
    name = ".".join([*tables, field])
    if problem["type"] == "extra_forbidden":
        return f"protocol {source}: no field is called {name!r}; {near_matches(field, fields)}"
    about = fields[field].description if field in fields else ""
    return f"protocol {source}: {name} = {problem['input']!r} will not do: {problem['msg'].lower()} ({about})"


def make_runtime(**values: Any) -> Runtime:
    """A runtime from command-line options. Raises UserError that names the option."""
    try:
        return Runtime(**values)
    except ValidationError as error:
        first = error.errors()[0]
        raise UserError(f"--{first['loc'][0]} {first['input']!r}: {first['msg'].lower()}") from error
