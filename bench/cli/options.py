"""Options that several commands take, and the one way in which commands print tables. Imports nothing heavy."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from bench.core.output import print_json

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from bench.core.config import Protocol


def _plugin(path: Path | None) -> Path | None:
    if path is not None:
        from bench.core.plugins import load_plugin

        load_plugin(path)
    return path


def _configured(context: typer.Context, path: Path | None) -> Path | None:
    """Options that the command line leaves out are taken from the file."""
    if path is not None:
        from bench.store.runfile import read_run_file

        names = (parameter.name for parameter in context.command.params)
        context.default_map = read_run_file(path, frozenset(name for name in names if name and name != "config"))
    return path


Plugin = Annotated[
    Path | None,
    typer.Option(
        help="Python file that registers models, datasets, regimes or analyses.", callback=_plugin, is_eager=True
    ),
]
Json = Annotated[bool, typer.Option("--json", help="One JSON document on standard output, nothing else.")]
ProtocolName = Annotated[str, typer.Option(help="paper, demo, or a TOML file.")]
Overrides = Annotated[list[str] | None, typer.Option("--set", help="field=value of the protocol; repeatable.")]
Weights = Annotated[str | None, typer.Option(help="imagenet, none, or a .safetensors/.pth file.")]
DeviceName = Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")]
Timing = Annotated[
    str, typer.Option(help="Batch times: off, quick (at most 10 batches each, no peak memory), or full.")
]
RunConfig = Annotated[
    Path | None,
    typer.Option(help="TOML file of a whole run; options beside it win.", callback=_configured, is_eager=True),
]
With = Annotated[
    str | None, typer.Option("--with", help="Analyses to put to every cell afterwards; `bench analyze list`.")
]
KeepEpochs = Annotated[
    bool, typer.Option("--keep-epochs", help="Keep every epoch's weights, for the analysis `optimism`.")
]
SplitName = Annotated[str, typer.Option(help="grouped, image, official, official:N, site or site:NAME.")]
RunFolder = Annotated[Path, typer.Argument(help="The run's folder.", show_default=False)]


def asked_protocol(protocol: str, overrides: list[str] | None, weights: str | None = None) -> Protocol:
    """The protocol of the options --protocol, --set and --weights. Raises UserError for what does not stand there.

    Args:
        protocol: paper, demo, or a TOML file.
        overrides: "field=value", in order.
        weights: what stands for the field of that name; None: as the protocol says.
    """
    from bench.core.config import load_protocol

    chosen = [] if weights is None else [f"weights={json.dumps(weights)}"]
    return load_protocol(protocol, [*(overrides or []), *chosen])


def print_listing(rows: Sequence[Mapping[str, Any]], columns: Sequence[str], as_json: bool = False) -> None:
    """Print rows as one JSON document, or as a table of some of their columns.

    Args:
        rows: values by column.
        columns: of the table; JSON has all.
        as_json: which of the two.
    """
    if as_json:
        print_json(rows)
        return
    print_table("", columns, [[row.get(column) for column in columns] for row in rows])


def print_table(title: str, header: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    """Print a table; columns that hold numbers are aligned to the right, None is a dash.

    Args:
        title: above the table.
        header: names of the columns.
        rows: values by column, in the header's order.
    """
    from rich.console import Console

    Console().print(_table(title, header, rows))


def print_as_known(
    rows: Iterable[dict[str, Any]], columns: Sequence[str], console: Console | None = None
) -> list[dict[str, Any]]:
    """Print a table that grows by a row when one is there; where the output is no terminal, all of it at the end.

    Args:
        rows: values by column, made one after the other.
        columns: of the table.
        console: where to; the standard output if None.

    Returns:
        The rows.
    """
    from rich.console import Console
    from rich.live import Live

    found: list[dict[str, Any]] = []
    with Live(console=console or Console(), auto_refresh=False, vertical_overflow="visible") as live:
        for row in rows:
            found.append(row)
            live.update(_table("", columns, [[each.get(name) for name in columns] for each in found]), refresh=True)
    return found


def _table(title: str, header: Sequence[str], rows: Sequence[Sequence[Any]]) -> Table:
    from rich.table import Table
    from rich.text import Text

    table = Table(title=title or None, title_justify="left", box=None, pad_edge=False, header_style="bold")
    for index, column in enumerate(header):
        numeric = any(isinstance(row[index], (int, float)) for row in rows)
        table.add_column(column, overflow="fold", justify="right" if numeric else "left")
    for row in rows:
        # Text, because names from files must not be read as markup.
        table.add_row(*(Text(as_text(value)) for value in row))
    return table


def as_text(value: object) -> str:
    """A value as tables show it: a dash for None, yes or no, three decimals."""
    if value is None:
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:,.3f}" if isinstance(value, float) else str(value)
