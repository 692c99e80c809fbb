"""`bench predict`. Heavy imports stay inside the functions."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from bench.cli.options import DeviceName, Json, Plugin, print_listing

if TYPE_CHECKING:
    from bench.harness.predicting import FileAnswer


def predict_command(
    cell: Annotated[Path, typer.Argument(help="RUN/KEY, the beginning of the key, or the cell's folder.")],
    images: Annotated[list[Path], typer.Argument(help="Image files, or folders of them.")],
    csv: Annotated[Path | None, typer.Option(help="Write the table into this file too.")] = None,
    device: DeviceName = "auto",
    as_json: Json = False,
    plugin: Plugin = None,
) -> None:
    """Answer on new images with what a finished cell fitted; exit code 1 when a file cannot be decoded.

    Example: `bench predict runs/demo/3f0a scans/ one-more.png --csv answers.csv`
    """
    from bench.core.config import make_runtime
    from bench.harness.finished import FinishedCell
    from bench.harness.networks import pick_device
    from bench.harness.predicting import answers, files_of

    opened = FinishedCell.at(cell, pick_device(make_runtime(device=device)))
    rows = [as_row(answer, opened.classes) for answer in answers(opened.predictor, files_of(images))]
    columns = ["image", "class", *(f"p_{name}" for name in opened.classes), "problem"]
    if csv is not None:
        write_csv(csv, columns, rows)
    failed = any(row["problem"] for row in rows)
    print_listing(rows, columns if failed else columns[:-1], as_json)
    raise typer.Exit(1 if failed else 0)


def as_row(answer: FileAnswer, classes: tuple[str, ...]) -> dict[str, Any]:
    """An answer as a row: image, class (the most probable), p_CLASS of each, problem; None without an answer."""
    found = answer.probabilities
    chosen = None if found is None else classes[int(found.argmax())]
    shares = {f"p_{name}": None if found is None else float(found[index]) for index, name in enumerate(classes)}
    return {"image": str(answer.path), "class": chosen, **shares, "problem": answer.problem}


def write_csv(path: Path, columns: list[str], rows: list[dict[str, Any]]) -> None:
    """Write rows with a header."""
    import csv
    import io

    from bench.core.atomic import write_text

    text = io.StringIO()
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_text(path, text.getvalue())


COMMANDS: dict[str, Callable[..., Any]] = {"predict": predict_command}
