"""`bench report` and `bench compare`. Heavy imports stay inside the functions."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from bench.cli.options import Json, RunFolder
from bench.core.output import print_json


def report_command(
    run: RunFolder,
    html: Annotated[bool, typer.Option("--html", help="The HTML page only.")] = False,
    md: Annotated[bool, typer.Option("--md", help="The Markdown tables only.")] = False,
    latex: Annotated[bool, typer.Option("--latex", help="The LaTeX tables only.")] = False,
    csv: Annotated[bool, typer.Option("--csv", help="The tidy tables only.")] = False,
    paper: Annotated[bool, typer.Option("--paper", help="Print the paper's tables 1 to 4 beside ours.")] = False,
    figures: Annotated[bool, typer.Option("--figures", help="Also every figure as SVG and PDF.")] = False,
    checklist: Annotated[
        str | None, typer.Option(help="Fill in claim, tripod-ai, clear-derm or model-card instead, comma-separated.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Where the files go; RUN/report when not given.")] = None,
    wandb: Annotated[str, typer.Option(help="Send the run to W&B: off, offline or online.")] = "off",
    as_json: Json = False,
) -> None:
    """Draw a run's report: HTML, Markdown, LaTeX and tidy tables (all of them unless one is named).

    Example: `bench report runs/demo --figures`
    """
    if checklist is not None:
        _write_checklists(run, checklist, out, as_json)
        return
    from reports.write import FORMATS, paper_texts, report

    asked = dict(zip(FORMATS, (html, md, latex, csv), strict=True))
    formats = tuple(name for name, wanted in asked.items() if wanted) or FORMATS
    outcome = report(run, formats, out, figures)
    if wandb != "off":
        from reports.wandb.tracking import send

        outcome["wandb"] = send(run, wandb)
    if paper and not as_json:
        for text in paper_texts(run):
            typer.echo(text)
    if as_json:
        print_json(outcome)
        return
    for problem in outcome["problems"]:
        typer.secho(f"not usable: {problem}", err=True, fg=typer.colors.YELLOW)
    typer.echo(f"{outcome['done']} of {outcome['cells']} cells have a result")
    for path in (path for paths in outcome["files"].values() for path in paths[:4]):
        typer.echo(path)


def _write_checklists(run: Path, names: str, out: Path | None, as_json: bool) -> None:
    from reports.checklists.write import write_checklists

    paths = [str(path) for path in write_checklists(run, [name.strip() for name in names.split(",")], out)]
    if as_json:
        print_json({"run": str(run), "checklists": paths})
        return
    for path in paths:
        typer.echo(path)


def compare_command(
    run: RunFolder,
    first: Annotated[str, typer.Argument(help="Model A.", show_default=False)],
    second: Annotated[str, typer.Argument(help="Model B.", show_default=False)],
    out: Annotated[Path | None, typer.Option(help="Where the page goes; RUN/report when not given.")] = None,
    as_json: Json = False,
) -> None:
    """Compare two models on the same test images: McNemar, DeLong, clustered jackknife, and the images they part on.

    Example: `bench compare runs/demo deepmedix mobilenet_v2`
    """
    from reports.write import compare

    outcome = compare(run, first, second, out)
    tables = outcome.pop("tables")
    if as_json:
        print_json(outcome)
        return
    for text in tables:
        typer.echo(text)
    typer.echo(outcome["page"])


COMMANDS: dict[str, Callable[..., Any]] = {"report": report_command, "compare": compare_command}
