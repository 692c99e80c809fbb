"""`bench models` and `bench profile`. Heavy imports stay inside the functions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any

import typer

from bench.cli.options import DeviceName, Json, Overrides, Plugin, ProtocolName, Timing, print_as_known, print_listing
from bench.core.output import print_json

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


def profile_command(
    models: Annotated[list[str], typer.Argument(help="Models or patterns.")],
    classes: Annotated[int, typer.Option(min=2, help="Number of classes.")] = 4,
    protocol: ProtocolName = "paper",
    overrides: Overrides = None,
    device: DeviceName = "auto",
    timing: Timing = "full",
    as_json: Json = False,
    plugin: Plugin = None,
) -> None:
    """Count parameters, MACs, FLOPs and activations, and time batches, without training. Counts are shown at once.

    Example: `bench profile "deepmedix*" mobilenet_v2 --set image_size=96 --set timing_batch_size=8`
    """
    from bench.core.config import load_protocol, make_runtime
    from bench.harness.listing import COUNT_COLUMNS, PROFILE_COLUMNS, count_rows, timed_rows

    recipe, runtime = load_protocol(protocol, overrides), make_runtime(device=device, timing=timing)
    counted = count_rows(",".join(models), classes, recipe)
    rows = list(counted) if as_json else print_as_known(counted, COUNT_COLUMNS)
    if as_json:
        print_json(list(timed_rows(rows, classes, recipe, runtime)))
    elif timing != "off":
        print_as_known(timed_rows(rows, classes, recipe, runtime), ["model", *PROFILE_COLUMNS[len(COUNT_COLUMNS) :]])


COMMANDS: dict[str, Callable[..., Any]] = {"profile": profile_command}
