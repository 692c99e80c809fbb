"""`bench fed`: partitions, gaps to the twin, a deployment's conveniences. Heavy imports stay inside the functions."""

from __future__ import annotations

import json
from typing import Annotated, Any

import typer

app = typer.Typer(help="Federated learning: partitions, gaps, and a real deployment.", no_args_is_help=True)

Json = Annotated[bool, typer.Option("--json", help="One JSON document on standard output, nothing else.")]
Overrides = Annotated[list[str] | None, typer.Option("--set", help="field=value of the protocol; repeatable.")]
ProtocolName = Annotated[str, typer.Option(help="paper, demo, or a TOML file.")]


@app.command()
def partition(
    dataset: Annotated[str, typer.Argument(help="The dataset's name.")],
    protocol: ProtocolName = "paper",
    overrides: Overrides = None,
    split: Annotated[str, typer.Option(help="grouped, image, official or official:N.")] = "grouped",
    seed: Annotated[int, typer.Option(min=0, help="The seed number.")] = 0,
    as_json: Json = False,
) -> None:
    """Who would hold what: training images by client and class, before anything is trained.

    Example: `bench fed partition phantom-brain --set federated.partition=dirichlet --set federated.alpha=0.1`
    """
    from federated.preview import preview

    found = preview(dataset, protocol, overrides or [], split, seed)
    if as_json:
        typer.echo(json.dumps(found, indent=1))
        return
    header = ["client", *found["classes"], "images"]
    rows = [[name, *counts, sum(counts)] for name, counts in zip(found["clients"], found["train"], strict=True)]
    _table(f"{dataset}, partition {found['partition']}", header, rows)


def _table(title: str, header: list[str], rows: list[list[Any]]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(title=title, title_justify="left", box=None, pad_edge=False, header_style="bold")
    for index, column in enumerate(header):
        table.add_column(column, justify="left" if index == 0 else "right")
    for row in rows:
        table.add_row(*(f"{value:.3f}" if isinstance(value, float) else str(value) for value in row))
    Console().print(table)
