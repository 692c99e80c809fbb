"""`bench export`. Heavy imports stay inside the functions."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from bench.cli.options import Json, Overrides, Plugin, ProtocolName, as_text
from bench.core.errors import UserError
from bench.core.output import print_json

if TYPE_CHECKING:
    from bench.harness.export.report import Material


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
    """Write a network as a file that runs without this package; checked against PyTorch, int8's loss on the test part.

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


COMMANDS: dict[str, Callable[..., Any]] = {"export": export_command}
