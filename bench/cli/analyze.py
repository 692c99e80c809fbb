"""`bench analyze`: what is asked of finished cells. Heavy imports stay inside the functions."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from bench.cli.options import Json, Plugin, print_listing
from bench.core.output import print_json

if TYPE_CHECKING:
    from bench.analyses.run import Outcome, Question, Subject
    from bench.store.cells import StoredCell

LIST = "list"


def analyze_command(
    run: Annotated[str, typer.Argument(help="The run's folder; `list` names the analyses.", show_default=False)],
    names: Annotated[str, typer.Option("--with", help="Names or patterns of analyses, comma-separated.")] = "all",
    cells: Annotated[str, typer.Option(help="A key's beginning, or a pattern on names: 'deepmedix · *'.")] = "*",
    values: Annotated[list[str] | None, typer.Option("--set", help="NAME.field=value; repeatable.")] = None,
    on: Annotated[str | None, typer.Option(help="external: the dataset to answer on.")] = None,
    as_json: Json = False,
    plugin: Plugin = None,
) -> None:
    """Put questions to the finished cells of a run; answers that are there are kept.

    Example: `bench analyze runs/demo --with calibration,selective --set selective.confidence=margin`
    """
    if run == LIST:
        from bench.analyses.run import listing

        print_listing(listing(), ["name", "summary"], as_json)
        return
    from bench.analyses.run import chosen_cells, questions
    from bench.store.run import Run

    stored = Run.open(Path(run))
    asked = questions(names, [*(values or []), *([f"external.on={on}"] if on else [])])
    answers = put(stored.path, chosen_cells(stored, cells), asked, as_json)
    from reports.write import report

    page = report(stored.path, ("html",))["files"]["html"][0]
    if as_json:
        print_json({"run": str(stored.path), "answers": answers, "report": page})
    else:
        typer.echo(f"report: {page}")
    raise typer.Exit(1 if any(row["status"] == "failed" for row in answers) else 0)


def put(run: Path, cells: Sequence[StoredCell], asked: Sequence[Question], as_json: bool) -> list[dict[str, Any]]:
    """Put the questions to cells of a run, and to all of them together.

    Returns:
        A row an answer, each told as it ends; on standard error where JSON is asked.
    """
    from bench.analyses.run import WholeRun, analyze

    subjects = [*cells, *([WholeRun(run, tuple(cells))] if cells else [])]
    return [_row(outcome) for outcome in _told(analyze(subjects, asked, _starting), as_json)]


def _starting(cell: Subject, question: Question) -> None:
    typer.echo(f"{_place(cell)}: {question.spec.name} ...", err=True)


def _told(outcomes: Iterable[Outcome], as_json: bool) -> Iterator[Outcome]:
    for outcome in outcomes:
        text = f"{_place(outcome.cell)}: {outcome.question.spec.name} {outcome.status}"
        typer.echo(f"{text}: {outcome.error}" if outcome.error else text, err=as_json or outcome.status == "failed")
        yield outcome


def _place(cell: Subject) -> str:
    if "model" not in cell.spec:
        return f"the run's {cell.spec['cells']} cells"
    return "/".join(str(cell.spec[name]) for name in ("model", "dataset", "split", "regime", "seed"))


def _row(outcome: Outcome) -> dict[str, Any]:
    from bench.store.answers import read_answer
    from bench.store.layout import answer_path

    name = outcome.question.spec.name
    row = {"key": outcome.cell.key, "cell": _place(outcome.cell), "analysis": name, "status": outcome.status}
    if outcome.status == "failed":
        return {**row, "error": outcome.error}
    found = read_answer(outcome.cell.folder, name)
    columns = {column: dict(zip(("value", "low", "high"), each, strict=True)) for column, each in found.columns.items()}
    return {**row, "columns": columns, "notes": found.notes, "file": str(answer_path(outcome.cell.folder, name))}


COMMANDS: dict[str, Callable[..., Any]] = {"analyze": analyze_command}
