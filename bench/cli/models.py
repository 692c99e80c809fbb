"""`bench models`, `bench profile` and `bench export`. Heavy imports stay inside the functions."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from bench.cli.options import (
    DeviceName,
    Json,
    Overrides,
    Plugin,
    ProtocolName,
    Timing,
    as_text,
    print_as_known,
    print_listing,
)
from bench.core.errors import UserError
from bench.core.output import print_json

if TYPE_CHECKING:
    from bench.harness.export.report import Material

app = typer.Typer(help="The registered models.", no_args_is_help=True)


@app.command("list")
def models_list(as_json: Json = False, plugin: Plugin = None) -> None:
    """List the registered models.

    Example: `bench models list --json`
    """
    from bench.harness.listing import models_table

    print_listing(models_table(), ["name", "tables", "paper", "backbone", "head", "smallest input", "summary"], as_json)


@app.command("show")
def models_show(
    name: Annotated[
        str, typer.Argument(help="A model's name; also HEAD@BACKBONE, MODEL+ACTIVATION, torchvision:NAME or timm:NAME.")
    ],
    classes: Annotated[int, typer.Option(min=2, help="Number of classes.")] = 4,
    as_json: Json = False,
    plugin: Plugin = None,
) -> None:
    """Show one model: its parts, parameters and operations.

    Example: `bench models show deepmedix --classes 4`
    """
    from bench.harness.listing import model_card

    card = model_card(name, classes)
    if as_json:
        print_json(card)
        return
    width = max(len(field) for field in card)
    for field, value in card.items():
        typer.echo(f"{field:<{width}}  {value}")


ONNX = [
    "model", "size_mb", "1_thread_network_ms_p50", "1_thread_network_ms_p90", "1_thread_network_ms_p99",
    "1_thread_with_preprocessing_ms_p50", "peak_memory_mb", "network_memory_mb", "device",
]  # fmt: skip


def profile_command(
    models: Annotated[list[str], typer.Argument(help="Models or patterns; with --onnx also .onnx files.")],
    classes: Annotated[int, typer.Option(min=2, help="Number of classes.")] = 4,
    protocol: ProtocolName = "paper",
    overrides: Overrides = None,
    device: DeviceName = "auto",
    timing: Timing = "full",
    onnx: Annotated[bool, typer.Option("--onnx", help="As ONNX files: size, latency of one image, memory.")] = False,
    as_json: Json = False,
    plugin: Plugin = None,
) -> None:
    """Count parameters, MACs, FLOPs and activations, and time batches, without training. Counts are shown at once.

    Example: `bench profile "deepmedix*" mobilenet_v2 --set image_size=96 --set timing_batch_size=8`
    """
    from bench.core.config import load_protocol, make_runtime
    from bench.harness.listing import COUNT_COLUMNS, PROFILE_COLUMNS, count_rows, timed_rows

    if onnx:
        from bench.harness.export.report import profile_files

        print_listing(list(profile_files(models, classes, load_protocol(protocol, overrides), 50)), ONNX, as_json)
        return
    recipe, runtime = load_protocol(protocol, overrides), make_runtime(device=device, timing=timing)
    counted = count_rows(",".join(models), classes, recipe)
    if as_json:
        print_json(list(timed_rows(list(counted), classes, recipe, runtime)))
        return
    rows = print_as_known(counted, COUNT_COLUMNS)
    for row in rows:
        if row["note"]:
            typer.echo(f"{row['model']}: {row['note']}")
    if timing != "off":
        print_as_known(timed_rows(rows, classes, recipe, runtime), ["model", *PROFILE_COLUMNS[len(COUNT_COLUMNS) :]])


def export_command(
    what: Annotated[str, typer.Argument(help="A finished cell (RUN/KEY or its folder), or a model's name.")],
    out: Annotated[Path, typer.Option(help="The file to write.")],
    onnx: Annotated[bool, typer.Option("--onnx", help="As ONNX: the one format so far.")] = False,
    int8: Annotated[bool, typer.Option("--int8", help="In 8 bits, calibrated on the training part.")] = False,
    classes: Annotated[int, typer.Option(min=2, help="Of a model: number of classes.")] = 4,
    protocol: ProtocolName = "paper",
    overrides: Overrides = None,
    as_json: Json = False,
    plugin: Plugin = None,
) -> None:
    """Write a network as a file that runs without this package; checked against PyTorch, int8's loss on the test set.

    Example: `bench export runs/demo/3f0a --onnx --int8 --out deepmedix.onnx`
    """
    if not onnx:
        raise UserError("name the format: bench export ... --onnx")
    from bench.core.config import load_protocol
    from bench.harness.export.report import export, of_model

    place = Path(what)
    is_cell = place.exists() or (place.parent != Path() and place.parent.is_dir())
    material = _of_cell(place) if is_cell else of_model(what, classes, load_protocol(protocol, overrides))
    row = export(material, out, int8)
    if as_json:
        print_json(row)
        return
    asked = row.pop("claims")
    width = max(map(len, row))
    for name, value in row.items():
        typer.echo(f"{name:<{width}}  {as_text(value)}")
    typer.echo("what a claim of handheld devices needs:")
    for claim in asked:
        typer.echo(f"  {claim['needs']}: {claim['measured']}")


def _of_cell(place: Path) -> Material:
    from bench.harness.export.report import of_cell
    from bench.harness.finished import FinishedCell

    return of_cell(FinishedCell.at(place))


COMMANDS: dict[str, Callable[..., Any]] = {"profile": profile_command, "export": export_command}
