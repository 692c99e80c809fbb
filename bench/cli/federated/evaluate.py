"""`bench fed evaluate` and `bench fed approve`: a frozen model put to every site."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from bench.cli.options import Json, print_table
from bench.core.output import print_json

_SHOWN = ("accuracy", "balanced_accuracy", "roc_auc", "log_loss", "ece", "overconfidence")


def evaluate(
    cell: Annotated[Path, typer.Argument(help="A finished cell: its folder, or RUN/KEY.")],
    consortium: Annotated[Path | None, typer.Option(help="The consortium's folder; without it, a simulation.")] = None,
    out: Annotated[Path | None, typer.Option(help="Where request, model and evaluation.json go.")] = None,
    on: Annotated[str, typer.Option(help="Another dataset's images, in place of the cell's own test set.")] = "",
    partition: Annotated[str, typer.Option(help="site, iid, ...: whose images are whose; the cell's if none.")] = "",
    clients: Annotated[int | None, typer.Option(min=2, help="How many sites; the cell's if none.")] = None,
    rehearse: Annotated[bool, typer.Option(help="Every site holds one common dataset and answers on a share.")] = False,
    fewest: Annotated[int, typer.Option(min=1, help="A site with fewer images tells nothing.")] = 20,
    purpose: Annotated[str, typer.Option(help="Why, for the sites' administrators.")] = "external validation",
    prepare: Annotated[
        bool, typer.Option("--prepare", help="Only write the request, for the sites to approve.")
    ] = False,
    patience: Annotated[float, typer.Option(min=1, help="Seconds to wait for the sites.")] = 600.0,
    timeout: Annotated[float, typer.Option(min=1, help="Seconds to wait for their answers.")] = 3600.0,
    as_json: Json = False,
) -> None:
    """Put a finished cell's model to every site: counts and metrics come back, and are pooled by random effects.

    Exit code 1 when a site refused or was lost.

    Example: `bench fed evaluate runs/demo/KEY --partition site`
    """
    from federated.evaluation.commands import Asked, deployed, in_simulation, request_of

    asked = Asked(cell, on, partition, clients, fewest, purpose, consortium, rehearse)
    request, frozen, table = request_of(asked)
    if prepare or consortium is not None:
        found = deployed(asked, request, frozen, out, prepare, patience, timeout)
    else:
        found = in_simulation(request, frozen, table, out)
    if as_json:
        print_json(found)
    else:
        _print(found)
    raise typer.Exit(int(any(site["status"] != "answered" for site in found.get("sites", []))))


def approve(
    request: Annotated[Path, typer.Argument(help="The request.json that the server's operator handed over.")],
    site: Annotated[Path, typer.Argument(help="The site's folder.")],
    days: Annotated[int, typer.Option(min=1, max=3650, help="How long the consent holds.")] = 90,
    key: Annotated[Path | None, typer.Option(help="The administrator's Ed25519 key, kept elsewhere.")] = None,
) -> None:
    """Sign a request, so that this site answers it. Without a signed file nothing of a request runs here.

    Example: `bench fed approve request.json trial/sites/hospital-a`
    """
    from federated.deployment.consortium import Site
    from federated.evaluation.approval import approve as sign
    from federated.evaluation.request import read_request

    asked = read_request(request)
    path = sign(asked, Site.open(site), days, key)
    typer.echo(f"purpose: {asked.purpose}; model {asked.model}, SHA-256 {asked.sha256}")
    typer.echo(
        f"classes: {', '.join(asked.classes)}; answered from {asked.fewest} images on, with counts and metrics alone"
    )
    typer.echo(f"signed for {days} days: {path}")


def _print(found: dict[str, Any]) -> None:
    if "sites" not in found:
        typer.echo(f"request {found['request'][:12]}: hand {found['file']} to the sites, `bench fed approve` signs it")
        return
    answers = [site for site in found["sites"] if site["status"] == "answered"]
    rows = [
        [site["site"], site["images"], site["groups"], *(_interval(site["metrics"][name]) for name in _SHOWN)]
        for site in answers
    ]
    print_table("by site [95 %]", ["site", "images", "groups", *_SHOWN], rows)
    head = ["metric", "scale", "sites", "mean [95 %]", "a further site [95 %]", "tau^2", "I^2", "p"]
    print_table("random effects (Paule-Mandel, Hartung-Knapp)", head, [_pooled(row) for row in found["pooled"]])
    for note in found["notes"]:
        typer.echo(note)


def _pooled(row: dict[str, Any]) -> list[str]:
    ends = {"value": row["value"], "low": row["predicted_low"], "high": row["predicted_high"]}
    further = "–" if ends["low"] is None else f"[{ends['low']:.3f}, {ends['high']:.3f}]"
    shown = [f"{row['tau2']:.4f}", f"{100 * row['i2']:.0f} %", f"{row['p']:.3f}"]
    return [row["metric"], row["scale"], str(row["sites"]), _interval(row), further, *shown]


def _interval(row: dict[str, Any]) -> str:
    if row["value"] is None:
        return "–"
    bounds = "" if row["low"] is None else f" [{row['low']:.3f}, {row['high']:.3f}]"
    return f"{row['value']:.3f}{bounds}"
