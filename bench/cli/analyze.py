"""`bench analyze` and `bench predict`: what is asked of finished cells. Heavy imports stay inside the functions."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from bench.cli.options import DeviceName, Json, Plugin, print_listing
from bench.core.output import print_json

if TYPE_CHECKING:
    from bench.analyses.predicting.answers import FileAnswer
    from bench.analyses.run import Outcome, Question, Subject
    from bench.store.cells import StoredCell

LIST = "list"
SHOWN = ("image", "class", "p", "calibrated", "set", "unlike", "problem")


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

    Args:
        run: its folder.
        cells: those of its cells that are asked.
        asked: analyses with their settings.
        as_json: whether standard output is kept for JSON.

    Returns:
        A row an answer, each told as it ends; on standard error where JSON is asked.
    """
    from bench.analyses.run import WholeRun, analyze

    subjects: list[Subject] = [*cells, *([WholeRun(run, tuple(cells))] if cells else [])]
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


def predict_command(
    cell: Annotated[Path, typer.Argument(help="RUN/KEY, the beginning of the key, or the cell's folder.")],
    images: Annotated[list[Path], typer.Argument(help="Image files, or folders of them.")],
    csv: Annotated[Path | None, typer.Option(help="Write the table into this file too.")] = None,
    maps: Annotated[Path | None, typer.Option(help="Write a heat map an image into this folder.")] = None,
    html: Annotated[Path | None, typer.Option(help="Write a page with the answers and heat maps.")] = None,
    device: DeviceName = "auto",
    as_json: Json = False,
    plugin: Plugin = None,
) -> None:
    """Answer on new images with what a finished cell fitted; exit code 1 when a file cannot be decoded.

    Beside the probabilities stand calibrated ones, the classes that cannot be ruled out, and whether an image is unlike
    the training images, as far as the cell's dataset is available. No answer is a diagnosis.

    Example: `bench predict runs/demo/3f0a scans/ one-more.png --csv answers.csv --html answers.html`
    """
    from bench.analyses.predicting.answers import answers, files_of
    from bench.analyses.predicting.reference import Reference
    from bench.core.config import make_runtime
    from bench.harness.finished import FinishedCell
    from bench.harness.networks import pick_device

    opened = FinishedCell.at(cell, pick_device(make_runtime(device=device)))
    files, reference = files_of(images), Reference.of(opened)
    for note in reference.notes:
        typer.echo(note, err=True)
    folder = maps or (None if html is None else html.with_suffix("").with_name(f"{html.stem}-maps"))
    found = list(answers(opened.predictor, files, reference, folder))
    rows = [as_row(answer, opened.classes) for answer in found]
    failed = any(row["problem"] for row in rows)
    if csv is not None:
        write_csv(csv, rows)
    if html is not None:
        from reports.html.predicted import write_predicted

        write_predicted(html, opened, rows, reference.notes)
        typer.echo(f"page: {html}", err=as_json)
    print_listing(rows if as_json else [brief(row) for row in rows], SHOWN if failed else SHOWN[:-1], as_json)
    raise typer.Exit(1 if failed else 0)


def as_row(answer: FileAnswer, classes: tuple[str, ...]) -> dict[str, Any]:
    """An answer as a row of plain values, None where something is not known.

    Returns:
        image; class, the most probable one; p_CLASS and calibrated_CLASS of each; set, the classes that cannot be ruled
        out; distance; unlike; heat_map; problem.
    """
    from bench.core.paths import shown

    given, calibrated, inside = answer.probabilities, answer.calibrated, answer.inside
    row: dict[str, Any] = {
        "image": shown(answer.path),
        "class": None if given is None else classes[int(given.argmax())],
    }
    for prefix, shares in (("p", given), ("calibrated", calibrated)):
        row |= {f"{prefix}_{name}": None if shares is None else float(shares[n]) for n, name in enumerate(classes)}
    row["set"] = None if inside is None else [name for name, held in zip(classes, inside, strict=True) if held]
    row |= {"distance": answer.distance, "unlike": answer.unlike}
    drawn = None if answer.heat_map is None else shown(answer.heat_map)
    return row | {"heat_map": drawn, "problem": shown(answer.problem)}


def brief(row: dict[str, Any]) -> dict[str, Any]:
    """A row as a terminal shows it: the probabilities of the most probable class alone."""
    chosen = row["class"]
    own = {name: None if chosen is None else row[f"{name}_{chosen}"] for name in ("p", "calibrated")}
    return row | own | {"set": None if row["set"] is None else ", ".join(row["set"]) or "none"}


def write_csv(path: Path, rows: list[dict[str, Any]]) -> None:
    """Write rows with a header; the classes of a set are joined by |."""
    import csv
    import io

    from bench.core.atomic import write_text

    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows({**row, "set": None if row["set"] is None else "|".join(row["set"])} for row in rows)
    write_text(path, text.getvalue())


COMMANDS: dict[str, Callable[..., Any]] = {"analyze": analyze_command, "predict": predict_command}
