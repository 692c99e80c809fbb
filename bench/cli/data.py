"""`bench data`: list, show, fetch, add, remove, prepare and audit datasets. Heavy imports stay inside the functions."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from bench.cli.options import Json, as_text, print_listing
from bench.core.errors import UserError
from bench.core.output import print_json

if TYPE_CHECKING:
    from bench.data.table import Kind

app = typer.Typer(help="Datasets: list, show, fetch, add, prepare and audit them.", no_args_is_help=True)

Name = Annotated[str, typer.Argument(help="The dataset's name; `bench data list` names them all.")]
Progress = Callable[[int, int], None]


@app.command("list")
def list_command(as_json: Json = False) -> None:
    """Every dataset: where it lies, or the command that brings it.

    Example: `bench data list --json`
    """
    from bench.data.card import listing

    rows = listing()
    if as_json:
        print_json(rows)
        return
    print_listing(rows, ("name", "title", "available", "where", "licence"))


@app.command()
def show(
    name: Name,
    sheet: Annotated[Path | None, typer.Option(help="Write a contact sheet of examples to this PNG.")] = None,
    as_json: Json = False,
) -> None:
    """A dataset's card: classes with counts, groups, sites, licence, citation, what is missing, how it was read.

    Example: `bench data show phantom-skin --sheet skin.png`
    """
    from bench.data.card import card, write_sheet

    found = card(name)
    if sheet is not None:
        found["sheet"] = str(write_sheet(name, sheet))
    if as_json:
        print_json(found)
        return
    _print_card(found)


@app.command()
def fetch(
    name: Name,
    accept_licence: Annotated[
        bool, typer.Option("--accept-licence", help="You have read the licence and keep to it.")
    ] = False,
    yes: Annotated[
        bool, typer.Option("--yes", help="Take files whose provider publishes no checksum, unasked.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Download a dataset from its provider: resumable, checked, unpacked safely, whole or not at all.

    Files without a published checksum are "unverified": it asks before it takes them, and refuses without a terminal.

    Example: `bench data fetch medmnist:breastmnist --accept-licence`
    """
    from bench.data.download.fetch import fetch_dataset

    with _progress(f"fetching {name}", unit="bytes") as advance:
        folder = fetch_dataset(name, accept_licence, advance, yes)
    _done({"name": name, "path": str(folder)}, f"{name} lies in {folder}", as_json)


@app.command()
def add(
    name: Name,
    path: Annotated[Path, typer.Argument(help="A folder of class folders, a CSV manifest, or a known distribution.")],
    image: Annotated[str | None, typer.Option(help="CSV column with image ids or paths.")] = None,
    label: Annotated[str | None, typer.Option(help="CSV column with the class.")] = None,
    group: Annotated[str | None, typer.Option(help="CSV column with the patient or lesion.")] = None,
    site: Annotated[str | None, typer.Option(help="CSV column with the hospital or camera.")] = None,
    split: Annotated[str | None, typer.Option(help="CSV column with train/val/test or a fold's number.")] = None,
    kind: Annotated[str, typer.Option(help="brain, skin or other: chooses the augmentation.")] = "other",
    licence: Annotated[str, typer.Option(help="Licence to show on the card.")] = "",
    allow_outside: Annotated[
        bool, typer.Option("--allow-outside", help="The CSV may name images outside its folder.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Remember a dataset that lies on this machine. Columns of a CSV are found by common names.

    Example: `bench data add clinic scans/index.csv --label diagnosis --group patient --kind brain`
    """
    from bench.data.card import describe
    from bench.data.registry import add as add_dataset

    columns = {"image": image, "label": label, "group": group, "site": site, "split": split}
    found = describe(add_dataset(name, path, columns, _kind(kind), licence, allow_outside))
    if as_json:
        print_json(found)
        return
    typer.echo(f"added {name}: {found['images']} images, {found['groups']} groups, {len(found['classes'])} classes")
    for note in found["notes"]:
        typer.echo(f"  {note}")


@app.command()
def remove(name: Name, as_json: Json = False) -> None:
    """Forget a dataset that was added; its files stay where they are.

    Example: `bench data remove clinic`
    """
    from bench.data.added import forget

    forget(name)
    _done({"name": name, "removed": True}, f"forgot {name}; its files are untouched", as_json)


@app.command()
def prepare(
    name: Name,
    size: Annotated[int, typer.Option(min=16, max=1024, help="Side of the square images, pixels.")] = 224,
    as_json: Json = False,
) -> None:
    """Decode and resize every image now, so that a run starts training at once.

    Example: `bench data prepare phantom-brain --size 96`
    """
    import time

    from bench.core.config import Protocol
    from bench.data.images.cache import images
    from bench.data.registry import load

    start = time.perf_counter()
    table = load(name, Protocol(image_size=size))
    with _progress(f"decoding {name}") as advance:
        prepared = images(table, size, advance)
    found = {"name": name, "images": len(table), "size": size, "path": str(prepared.filename)}
    found["seconds"] = round(time.perf_counter() - start, 3)
    _done(
        found, f"{name}: {len(table)} images of {size} x {size} in {found['seconds']} s at {prepared.filename}", as_json
    )


@app.command()
def audit(
    name: Name,
    split: Annotated[str, typer.Option(help="grouped, image, official, official:N, site, site:NAME, or all.")] = "all",
    seed: Annotated[int, typer.Option(help="The split's seed.")] = 0,
    against: Annotated[str, typer.Option(help="Other datasets to look for the same pictures in.")] = "",
    html: Annotated[Path | None, typer.Option(help="Write the report, pairs as pictures, to this file.")] = None,
    strict: Annotated[bool, typer.Option("--strict", help="Exit code 1 when a split leaks.")] = False,
    as_json: Json = False,
) -> None:
    """Look for duplicates, near duplicates, groups in two parts, label conflicts and imbalance.

    Example: `bench data audit phantom-brain --split grouped --html audit.html`
    """
    from bench.data.audit.audit import audit_dataset, write_html

    with _progress(f"auditing {name}") as advance:
        found = audit_dataset(name, split, seed, [part for part in against.split(",") if part], advance)
    if html is not None:
        found["html"] = str(write_html(found, html))
    if as_json:
        print_json(found)
    else:
        _print_audit(found)
    if strict and any(part["verdict"].startswith("leaks") for part in found["splits"].values()):
        raise typer.Exit(1)


def _kind(text: str) -> Kind:
    kinds: dict[str, Kind] = {"brain": "brain", "skin": "skin", "other": "other"}
    if text not in kinds:
        raise UserError(f"--kind is brain, skin or other, not {text!r}")
    return kinds[text]


def _done(found: dict[str, Any], sentence: str, as_json: bool) -> None:
    if as_json:
        print_json(found)
    else:
        typer.echo(sentence)


def _print_card(found: dict[str, Any]) -> None:
    for field, value in found.items():
        if field in ("classes", "sites", "official") and isinstance(value, dict):
            value = ", ".join(f"{name} {count}" for name, count in value.items()) or None
        for index, line in enumerate(value if isinstance(value, list) else [value]):
            typer.echo(f"{'' if index else field:<12} {as_text(line)}")


def _print_audit(found: dict[str, Any]) -> None:
    from bench.data.audit.class_names import conflict_words

    typer.echo(f"{found['dataset']}: {found['images']} images, {found['groups']} groups")
    for field, value in found["counts"].items():
        typer.echo(f"  {field.replace('_', ' '):<34} {value}")
    for other, counts in found["across"].items():
        typer.echo(f"  same pictures as in {other:<15} {counts['images']} ({conflict_words(counts)})")
    rows = [{"split": kind, **{key: part[key] for key in _SPLIT_COLUMNS}} for kind, part in found["splits"].items()]
    print_listing(rows, ("split", *_SPLIT_COLUMNS))
    typer.echo(f"kept at {found['stored']}" + (f", shown at {found['html']}" if "html" in found else ""))


_SPLIT_COLUMNS = ("train", "val", "test", "groups_in_two_parts", "test_images_seen", "verdict")


@contextmanager
def _progress(what: str, unit: str = "images") -> Iterator[Progress]:
    """A progress bar on standard error, where that is a terminal."""
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    console = Console(stderr=True)
    count = DownloadColumn() if unit == "bytes" else MofNCompleteColumn()
    columns = (TextColumn("{task.description}"), BarColumn(), count, TimeRemainingColumn())
    with Progress(*columns, console=console, disable=not console.is_terminal, transient=True) as bar:
        task = bar.add_task(what, total=None)

        def advance(done: int, total: int) -> None:
            bar.update(task, completed=done, total=total or None)

        yield advance
