"""`bench fed`: partitions, gaps to the twin, a deployment's conveniences. Heavy imports stay inside the functions."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from bench.cli.federated.evaluate import approve, evaluate
from bench.cli.options import Json, Overrides, ProtocolName, SplitName, asked_protocol, print_table
from bench.core.output import print_json
from bench.store.layout import BEST

app = typer.Typer(help="Federated learning: partitions, gaps, and a real deployment.", no_args_is_help=True)
app.command()(evaluate)
app.command()(approve)


@app.command()
def partition(
    dataset: Annotated[str, typer.Argument(help="The dataset's name.")],
    protocol: ProtocolName = "paper",
    overrides: Overrides = None,
    split: SplitName = "grouped",
    seed: Annotated[int, typer.Option(min=0, help="The seed number.")] = 0,
    as_json: Json = False,
) -> None:
    """Who would hold what: training images by client and class, before anything is trained.

    Example: `bench fed partition phantom-brain --set federated.partition=dirichlet --set federated.alpha=0.1`
    """
    from federated.data.preview import preview

    found = preview(dataset, protocol, overrides or [], split, seed)
    if as_json:
        print_json(found)
        return
    header = ["client", *found["classes"], "images"]
    rows = [[name, *counts, sum(counts)] for name, counts in zip(found["clients"], found["train"], strict=True)]
    print_table(f"{dataset}, partition {found['partition']}", header, rows)


@app.command()
def init(
    folder: Annotated[Path, typer.Argument(help="A new folder.")],
    host: Annotated[str, typer.Option(help="The name or address under which sites reach the server.")],
    sites: Annotated[str, typer.Option(help="The sites' names, comma-separated: a-z, 0-9 and hyphens.")],
    name: Annotated[str, typer.Option(help="The consortium's name.")] = "consortium",
    port: Annotated[int, typer.Option(min=1, max=65535, help="The port that sites reach.")] = 443,
    internal_port: Annotated[int, typer.Option(min=1, max=65535, help="The server's own, behind the proxy.")] = 18443,
) -> None:
    """Make a consortium's folder: authority, certificates, keys, units, compose files, proxy, pages of instructions.

    Example: `bench fed init trial --host fed.example.org --sites hospital-a,hospital-b,hospital-c`
    """
    from federated.deployment.consortium import create

    made = create(folder, name, host, port, [site.strip() for site in sites.split(",") if site.strip()], internal_port)
    typer.echo(
        f"{folder}: {len(made.sites)} sites. Read {folder / 'README.md'}; keep authority/ca.key off every network."
    )


@app.command()
def server(
    folder: Annotated[Path, typer.Argument(help="The consortium's folder.")],
    bind: Annotated[str, typer.Option(help="Address to listen on; not loopback: behind a firewall.")] = "127.0.0.1",
) -> None:
    """Check this machine, start Flower's SuperLink (TLS, site authentication) and make the sites' keys known.

    Example: `bench fed server trial`
    """
    from federated.deployment.checks import check_server, refuse_failures
    from federated.deployment.consortium import Consortium
    from federated.deployment.operate import serve

    made = Consortium.open(folder)
    findings = check_server(made)
    _print_findings(findings)
    refuse_failures(findings)
    raise typer.Exit(serve(made, bind))


@app.command()
def site(
    folder: Annotated[Path, typer.Argument(help="The site's folder, as the server's operator handed it over.")],
    data: Annotated[str, typer.Option(help="The dataset's name; `bench data list` names them all.")],
    port: Annotated[int | None, typer.Option(min=1024, max=65535, help="A free local port; drawn if none.")] = None,
) -> None:
    """Check this machine and start Flower's SuperNode: it dials out to the server and trains when asked.

    Example: `bench fed site trial/sites/hospital-a --data phantom-brain`
    """
    from federated.deployment.checks import check_site, refuse_failures
    from federated.deployment.consortium import Site
    from federated.deployment.operate import attend

    here = Site.open(folder)
    findings = check_site(here, data, waits=True)
    _print_findings(findings)
    refuse_failures(findings)
    attend(here, data, port)


@app.command()
def check(
    folder: Annotated[Path, typer.Argument(help="A consortium's or a site's folder.")],
    data: Annotated[str | None, typer.Option(help="At a site: the dataset's name.")] = None,
    as_json: Json = False,
) -> None:
    """Look at clock, certificates, reachability, dataset and versions; exit code 1 when something will not work.

    Example: `bench fed check trial/sites/hospital-a --data phantom-brain`
    """
    from federated.deployment.checks import check_server, check_site
    from federated.deployment.consortium import CONSORTIUM, SERVER, Consortium, Site

    is_server = any((place / CONSORTIUM).is_file() for place in (folder, folder / SERVER))
    findings = check_server(Consortium.open(folder)) if is_server else check_site(Site.open(folder), data or "")
    if as_json:
        print_json([vars(finding) for finding in findings])
    else:
        _print_findings(findings)
    raise typer.Exit(int(any(finding.verdict == "failed" for finding in findings)))


@app.command()
def revoke(
    folder: Annotated[Path, typer.Argument(help="The consortium's folder, or its server/.")],
    site: Annotated[str, typer.Argument(help="The site's name.", show_default=False)],
) -> None:
    """Take a site's key off the server: it is out within a minute, told so, and not let in again.

    Example: `bench fed revoke trial hospital-a`
    """
    from federated.deployment.consortium import Consortium
    from federated.deployment.members import revoke as revoke_key

    told = revoke_key(Consortium.open(folder), site)
    when = "the running server was told" if told else "no running server was told; it is out from the next start on"
    typer.echo(f"the key of {site} is revoked: {when}")


@app.command()
def renew(
    folder: Annotated[Path, typer.Argument(help="The consortium's folder, with authority/ in it.")],
) -> None:
    """Make a new server certificate by the consortium's authority; sites keep what they have.

    Example: `bench fed renew trial`
    """
    from federated.deployment.consortium import Consortium
    from federated.deployment.members import renew as renew_certificate

    made = Consortium.open(folder)
    renew_certificate(made)
    typer.echo(
        f"{made.server}: a new server.crt and server.key; bring them to the server and the proxy, start both again"
    )


@app.command()
def run(
    folder: Annotated[Path, typer.Argument(help="The consortium's folder, on the server's machine.")],
    model: Annotated[str, typer.Argument(help="The model's name.")],
    classes: Annotated[str, typer.Option(help="The classes that every site's dataset has, in order, comma-separated.")],
    out: Annotated[Path, typer.Option(help="Where state, history and weights go; started again, the run goes on.")],
    regime: Annotated[str, typer.Option(help="fedavg, fedavg-svrg, fedprox, ...")] = "fedavg",
    protocol: ProtocolName = "paper",
    overrides: Overrides = None,
    kind: Annotated[
        str, typer.Option(help="Kind of image, for the augmentation: brain, skin or other; rehearsed: the dataset's.")
    ] = "",
    seed: Annotated[int, typer.Option(min=0, help="The seed number.")] = 0,
    rehearse: Annotated[str, typer.Option(help="Every site holds this dataset and takes its share: a rehearsal.")] = "",
    statistics: Annotated[
        str, typer.Option(help="With weights=none and tuning=head: a dataset here, for the BatchNorm statistics.")
    ] = "",
    minimum: Annotated[int, typer.Option(min=0, help="Start with as many sites; 0: all.")] = 0,
    patience: Annotated[float, typer.Option(min=1, help="Seconds to wait for the sites.")] = 600.0,
    timeout: Annotated[float, typer.Option(min=1, help="Seconds to wait for a round's replies.")] = 3600.0,
) -> None:
    """Train over the consortium's sites; go on from the last finished round of OUT.

    Example: `bench fed run trial deepmedix --classes rim,diffuse,midline --rehearse phantom-brain --out runs/trial`
    """
    from federated.deployment.consortium import Consortium
    from federated.deployment.operate import follow, run_log, start_run
    from federated.deployment.task import Task

    made = Consortium.open(folder)
    names = tuple(part.strip() for part in classes.split(",") if part.strip())
    recipe, count = asked_protocol(protocol, overrides), len(made.sites)
    task = Task(rehearse or made.name, model, regime, recipe, names, count, seed, kind=kind, rehearsal=bool(rehearse))
    if statistics or rehearse:
        task = task.with_statistics(statistics or rehearse)
    task.checked()
    settings = {"gather-timeout": patience, "round-timeout": timeout, "minimum-sites": minimum}
    number = start_run(made, task.to_json(), out, settings)
    typer.echo(f"run {number}")
    status = follow(made, number, out, _print_round)
    _print_outcome(status, out, lambda: run_log(made, number))


def _print_outcome(status: str, out: Path, log: Callable[[], str]) -> None:
    from federated.deployment.status import read_status

    if status != "finished:completed":
        typer.echo(log()[-2000:], err=True)
        typer.echo(f"the run ended as {status}; the last finished round is in {out}, start it again to go on", err=True)
        raise typer.Exit(1)
    told = read_status(out / "status.json")
    typer.echo(f"weights: {out / BEST}")
    for note in told["notes"]:
        typer.echo(note)
    spent: Any = told.get("privacy")
    if spent:
        typer.echo(f"epsilon {spent['epsilon']} at delta {spent['delta']:g}: {spent['statement']}")


@app.command("gaps")
def gaps_command(
    folder: Annotated[Path, typer.Argument(metavar="RUN", help="A run's folder with the regime `twin` in it.")],
    metric: Annotated[
        str, typer.Option(help="A quality column: accuracy, balanced_accuracy, roc_auc, ...")
    ] = "accuracy",
    as_json: Json = False,
) -> None:
    """Each federated row against its centralized twin: the gap with its paired interval, rounds and bytes to get near.

    A twin is of the same model, dataset, split and protocol; a row without one says what was run instead.

    Example: `bench fed gaps runs/demo`
    """
    from reports.compare.federated import gap_rows

    rows = gap_rows(folder, metric)
    if as_json:
        print_json(rows)
        return
    _print_gaps(rows, metric)


@app.command("clients")
def clients_command(
    folder: Annotated[Path, typer.Argument(metavar="RUN", help="A run's folder with `local-only` or `twin` in it.")],
    metric: Annotated[str, typer.Option(help="A quality column: accuracy, balanced_accuracy, ...")] = "accuracy",
    against: Annotated[str, typer.Option(help="Regimes to hold the others against.")] = "local-only,twin,fedavg",
    as_json: Json = False,
) -> None:
    """Who gains by federating, client by client: the model that a client would use against what it has otherwise.

    Its own model where the regime leaves it one; p values are Holm-adjusted over the whole listing.

    Example: `bench fed clients runs/demo --against local-only`
    """
    from bench.measure.columns import column
    from reports.compare.clients import gain_rows

    found = gain_rows(folder, metric, [name.strip() for name in against.split(",") if name.strip()])
    if as_json:
        print_json(found)
        return
    head = ("model", "regime", "client", "of", "images", "accuracy", "against", "gain [95 %]", "p (Holm)")
    print_table(f"{metric} by client", head, [_gain_line(row, column(metric)) for row in found])


def _gain_line(row: dict[str, Any], about: Any) -> list[str]:
    from reports.compare.ranking import probability

    regime = " ".join(row[name] for name in ("regime", "variant") if row[name])
    low, value, high = (_signed(row[name], about) for name in ("low", "gain", "high"))
    p = "–" if row["p_holm"] is None else probability(row["p_holm"])
    shown = [row["client"], row["of"], str(row["images"]), f"{100 * row['accuracy']:.1f}", row["against"]]
    return [row["model"], regime, *shown, f"{value} [{low}, {high}]", p]


def _print_gaps(rows: list[dict[str, Any]], metric: str) -> None:
    # The columns that fit a terminal; --json has them all.
    head = ("model", "dataset", "regime", metric, "twin", "gap [95 %]", "p (Holm)", "rounds to 95 %", "MB to 95 %")
    print_table("against the centralized twin", head, [_line(row, metric) for row in rows])
    for row in rows:
        if row["problem"]:
            typer.echo(f"{_place(row)}: {row['problem']}")


def _place(row: dict[str, Any]) -> str:
    return " · ".join(row[name] for name in ("model", "dataset", "split", "regime", "variant") if row[name])


def _line(row: dict[str, Any], metric: str) -> list[str]:
    from bench.measure.columns import column
    from reports.compare.ranking import probability

    about = column(metric)
    regime = " ".join(row[name] for name in ("regime", "variant") if row[name])
    shown = [about.text(row[name]) for name in (metric, "twin")]
    low, high = (_signed(row[name], about) for name in ("low", "high"))
    gap = f"{_signed(row['gap'], about)} [{low}, {high}]" if row["gap"] is not None else "–"
    p = "–" if row["p_holm"] is None else probability(row["p_holm"])
    reached = ["–" if row[name] is None else f"{row[name]:.1f}" for name in ("rounds_95", "mb_95")]
    return [row["model"], row["dataset"], regime, *shown, gap, p, *reached]


def _signed(value: float | None, about: Any) -> str:
    return "–" if value is None else f"{about.scale * value:+.{about.digits}f}"


def _print_findings(findings: list[Any]) -> None:
    marks = {"ok": "ok     ", "warning": "warning", "failed": "FAILED "}
    for finding in findings:
        typer.echo(f"{marks[finding.verdict]}  {finding.what}: {finding.words}")


def _print_round(row: dict[str, Any]) -> None:
    accuracy = "–" if row["val_accuracy"] is None else f"{row['val_accuracy']:.4f}"
    # Under a secret draw nothing tells who took part.
    secret = row["clients_asked"] is None
    sites = "sites drawn in secret" if secret else f"{row['clients_answered']}/{row['clients_asked']} sites"
    lost = f"; lost {row['lost']}" if row.get("lost") else ""
    typer.echo(f"round {row['round']}: {sites}, accuracy {accuracy}, {row['seconds']:.0f} s{lost}")
