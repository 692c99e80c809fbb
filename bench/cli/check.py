"""`bench check`: the command. Imports nothing heavy."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from bench.cli.options import Json, RunFolder
from bench.core.output import print_json

if TYPE_CHECKING:
    from bench.gate.verdict import Check


def check_run(
    run: Path,
    baseline: Path,
    margins: Path | None = None,
    cells: str = "*",
    time: str | None = None,
    now_python: str = sys.executable,
) -> Check:
    """Hold a run against a baseline, with times measured in turns where another installation's Python is named.

    Args:
        run: the run's folder.
        baseline: a baseline file, or another run's folder.
        cells: a pattern on the names of the cells that are gated.
        margins: a TOML file of losses that are accepted; None: the defaults.
        time: the Python of the installation to time against; None: no times.
        now_python: the Python whose times are held against it.

    Raises:
        UserError: either side cannot be read, or they share no cell.
    """
    from dataclasses import replace

    from bench.gate.check import check
    from bench.gate.margins import load_margins

    found = check(run, baseline, margins, cells)
    if time is None:
        return found
    from bench.gate.timing import time_verdicts

    return replace(found, verdicts=(*found.verdicts, *time_verdicts(run, time, now_python, load_margins(margins))))


def check_command(
    run: RunFolder,
    baseline: Annotated[Path, typer.Option(help="A baseline file, or another run's folder.")],
    update: Annotated[bool, typer.Option("--update", help="Write the run as the new baseline and stop.")] = False,
    margins: Annotated[Path | None, typer.Option(help="TOML file of margins.")] = None,
    cells: Annotated[str, typer.Option(help="A pattern on cells' names: 'deepmedix · *'.")] = "*",
    time: Annotated[
        str | None, typer.Option(help="Python of the base installation: time both in turns.", metavar="BASE_PYTHON")
    ] = None,
    strict: Annotated[bool, typer.Option("--strict", help="A test set too small to decide is exit code 2.")] = False,
    junit: Annotated[Path | None, typer.Option(help="Write JUnit XML here.")] = None,
    markdown: Annotated[Path | None, typer.Option(help="Write a Markdown summary here.")] = None,
    github: Annotated[
        bool | None, typer.Option(help="Print GitHub annotations; on by itself inside a GitHub workflow.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Hold a run against a baseline: exit code 0 held, 1 fell short, 2 could not compare.

    Example: `bench check runs/demo --baseline benchmarks/baseline.json`
    """
    if update:
        _update(run, baseline, as_json)
        return
    found = check_run(run, baseline, margins, cells, time)
    _write(found, strict, junit, markdown)
    if as_json:
        from bench.gate import output as verdicts

        print_json(verdicts.as_json(found, strict))
    else:
        _print(found, "GITHUB_ACTIONS" in os.environ if github is None else github)
    raise typer.Exit(found.exit_code(strict))


def _update(run: Path, baseline: Path, as_json: bool) -> None:
    from bench.gate.baseline import write_baseline

    outcome = {"baseline": str(baseline), **write_baseline(run, baseline)}
    if as_json:
        print_json(outcome)
        return
    left = f"; {outcome['left_out']} without a result were left out" if outcome["left_out"] else ""
    typer.echo(f"{baseline}: {outcome['cells']} cells{left}")


def _write(found: Check, strict: bool, junit: Path | None, markdown: Path | None) -> None:
    from bench.core.atomic import write_text
    from bench.gate import output as verdicts

    if junit is not None:
        write_text(junit, verdicts.junit(found, strict))
    if markdown is not None:
        write_text(markdown, verdicts.markdown(found))
    step = os.environ.get("GITHUB_STEP_SUMMARY")
    if step:
        with Path(step).open("a", encoding="utf-8") as file:
            file.write(verdicts.markdown(found))


def _print(found: Check, github: bool) -> None:
    from bench.gate import output as verdicts

    if github:
        for line in verdicts.github_lines(found):
            typer.echo(line)
    for verdict in found.verdicts:
        if verdict.outcome != "same":
            typer.echo(verdicts.text(verdict))
    for note in found.notes:
        typer.echo(note)
    typer.echo(verdicts.summary(found))


COMMANDS: dict[str, Callable[..., Any]] = {"check": check_command}
