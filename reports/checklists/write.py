"""Writing a checklist as Markdown."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from bench.core.atomic import write_text
from bench.core.errors import UserError
from bench.core.registry import near_matches
from reports.checklists.facts import facts
from reports.checklists.items import CHECKLISTS, Checklist
from reports.content import Drawing, drawing

UNANSWERED = "*not answered by this run*"


def write_checklists(run: Path, names: Sequence[str], out: Path | None = None) -> list[Path]:
    """Write `checklist-NAME.md` for each name.

    Args:
        run: the run's folder.
        names: of checklists.
        out: where the files go; RUN/report when not given.

    Raises:
        UserError: an unknown name, or no run.
    """
    for name in names:
        if name not in CHECKLISTS:
            raise UserError(f"no checklist is called {name!r}; {near_matches(name, tuple(CHECKLISTS))}")
    drawn, folder = drawing(run), out or run / "report"
    paths = {name: folder / f"checklist-{name}.md" for name in names}
    for name, path in paths.items():
        write_text(path, checklist_text(drawn, CHECKLISTS[name]))
    return list(paths.values())


def checklist_text(drawn: Drawing, checklist: Checklist) -> str:
    """A checklist with what the run knows, as Markdown."""
    found = [(item, facts(drawn, item.topics)) for item in checklist.items]
    known = sum(bool(text) for _, text in found)
    lines = [f"# {checklist.title}: {drawn.source.name}", "",
             f"After {checklist.source}; items in our own short words. {known} of {len(found)} are filled in from the "
             "run, and only as far as it knows: whoever reports must read each of them.", "",
             "| item | asks for | from this run |", "|---|---|---|"]  # fmt: skip
    lines += [f"| {item.number} | {item.text} | {_cell(text) or UNANSWERED} |" for item, text in found]
    return "\n".join(lines) + "\n"


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")
