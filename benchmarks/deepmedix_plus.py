"""The best small model that a bounded search finds, against DeepMediX with as many trials of its own training.

    bench data add figshare-brain PATH
    python benchmarks/deepmedix_plus.py --dataset figshare-brain --split official:1 --weights FILE --frozen --out DIR

Two sweeps over the same training and validation images, with the same number of trials: one over every model and field
of `sweeps/spaces/deepmedix-plus.toml` (at most 0.613 GFLOPs and 3.5 million parameters each), one over its fields of
the protocol alone, for `deepmedix`. What each found by validation is fitted for every seed, and the two are compared on
the same test images. `--frozen` searches the heads on one frozen backbone with stored maps, and leaves out what means
nothing there: other backbones, their activations, CutMix and rates by layer. Augmented copies are stored where
`--set feature_views=` asks for more than one.
"""

from __future__ import annotations

import argparse
import json
import tomllib
from pathlib import Path
from typing import Any

from rich.console import Console

from bench.core.atomic import write_text
from bench.core.config import load_protocol, make_runtime
from bench.harness.plan import Request
from models.registry import MODELS
from reports.compare.versus import entry_as_json, versus
from reports.load.source import load
from reports.tables.grid import Row, rows
from sweeps.sweep import Asked, run_sweep

SPACE = Path(__file__).parents[1] / "sweeps" / "spaces" / "deepmedix-plus.toml"
FROZEN_ONLY = {"mix": ["none", "mixup"]}
NO_MEANING_FROZEN = ("layer_decay",)


def spaces(frozen: bool, backbone: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """The tables of both spaces: with models, and the protocol's fields alone."""
    tables: dict[str, Any] = tomllib.loads(SPACE.read_text())
    protocol, names = dict(tables["protocol"]), list(tables["model"]["name"])
    if frozen:
        protocol = {name: values for name, values in (protocol | FROZEN_ONLY).items() if name not in NO_MEANING_FROZEN}
        specs = [MODELS.get(name) for name in names]
        names = [spec.name for spec in specs if spec.backbone == backbone and not spec.activation]
    return {"protocol": protocol, "model": {"name": names}}, {"protocol": protocol}


def as_toml(tables: dict[str, Any]) -> str:
    """A space as a file: TOML's lists and inline tables of plain values."""
    lines = []
    for table, fields in tables.items():
        lines.append(f"[{table}]")
        for name, values in fields.items():
            inner = (
                ", ".join(f"{key} = {json.dumps(value)}" for key, value in values.items())
                if isinstance(values, dict)
                else ""
            )
            lines.append(f"{name} = {{ {inner} }}" if inner else f"{name} = {json.dumps(values)}")
    return "\n".join(lines) + "\n"


def main() -> None:
    """Both sweeps, the cells on the test set, and the comparison."""
    options = _options()
    with_models, alone = spaces(options.frozen, MODELS.get("deepmedix").backbone)
    found = {name: _sweep(options, name, space) for name, space in (("plus", with_models), ("deepmedix", alone))}
    result = compared(options.out / "run", *(found[name]["cells"]["tuned"] for name in ("plus", "deepmedix")))
    result |= {name: found[name]["best"] for name in found}
    write_text(options.out / "deepmedix-plus.json", json.dumps(result, indent=1, default=str) + "\n")
    print(json.dumps(result, indent=1, default=str))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset", required=True)
    parser.add_argument("--split", default="grouped")
    parser.add_argument("--weights", default="imagenet")
    parser.add_argument("--frozen", action="store_true")
    parser.add_argument("--trials", type=int, default=30)
    parser.add_argument("--seeds", default="3", help="of the test cells; the first is the sweeps'")
    parser.add_argument("--set", dest="overrides", action="append", default=[], help="of the base protocol")
    parser.add_argument("--out", type=Path, required=True)
    return parser.parse_args()


def _sweep(options: argparse.Namespace, name: str, space: dict[str, Any]) -> dict[str, Any]:
    file = options.out / f"{name}.toml"
    write_text(file, as_toml(space))
    overrides = [f"weights={options.weights}", f"tuning={'head' if options.frozen else 'full'}", *options.overrides]
    request = Request(
        "deepmedix", options.dataset, load_protocol("paper", overrides), "centralized", options.seeds, options.split
    )
    runtime = make_runtime(timing="off", progress="plain")
    asked = Asked(
        request,
        options.trials,
        ("accuracy:max",),
        options.out / "run",
        runtime,
        file,
        best=options.out / f"{name}-found.toml",
    )
    return run_sweep(asked, Console())


def compared(folder: Path, first: list[str], second: list[str]) -> dict[str, Any]:
    """The first cells against the second ones on the same test images: figures, paired differences, McNemar."""
    source = load(folder)
    plus, alone = (_row([cell for cell in source.cells if cell.key in keys]) for keys in (first, second))
    found = entry_as_json(versus(source, alone.condition, plus, alone))
    del found["discordant"]
    return {"models": [plus.model, alone.model], **found}


def _row(cells: list[Any]) -> Row:
    (row,) = rows(cells)
    return row


if __name__ == "__main__":
    main()
