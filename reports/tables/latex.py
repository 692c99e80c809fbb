"""Tables for a paper: each a file to `\\input`, and a document that shows them all and compiles as it stands.

A table needs `booktabs` and `graphicx`; one that is wider than the line is scaled to it, one that is longer than a page
goes on in a second.
"""

from __future__ import annotations

import re
import textwrap
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from bench.core.atomic import write_text
from reports.tables.markup import Entry, Grid

_LATEX = {
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{", "}": r"\}",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "–": "--", "—": "---", "−": "$-$", "·": r"$\cdot$",
    "×": r"$\times$", "<": r"\textless{}", ">": r"\textgreater{}", "†": r"\dag{}", "≥": r"$\geq$", "≤": r"$\leq$",
    "“": "``", "”": "''", "‘": "`", "’": "'", "…": r"\ldots{}", "→": r"$\rightarrow$", "±": r"$\pm$", "≈": r"$\approx$",
    "µ": r"$\mu$", "∞": r"$\infty$", "✓": "yes", "✗": "no", "\N{NO-BREAK SPACE}": "~", "²": "$^2$", "³": "$^3$",
}  # fmt: skip
_GREEK = {
    "α": "alpha", "β": "beta", "γ": "gamma", "δ": "delta", "ε": "epsilon", "θ": "theta", "λ": "lambda", "μ": "mu",
    "π": "pi", "ρ": "rho", "σ": "sigma", "τ": "tau", "χ": "chi", "Δ": "Delta", "Σ": "Sigma",
}  # fmt: skip
# After a line's end a bracket would be read as the line's extra height.
_LATEX["["] = "{[}"
_LATEX |= {letter: rf"$\{name}$" for letter, name in _GREEK.items()}
# Letters up to here are in T1's fonts.
_LAST_LATIN = 0x17F
LINES = 24
_HEAD_WIDTH = 14
_PAPERS_OWN = re.compile(r"^(Table \d+): (.*)$", re.DOTALL)
PREAMBLE = r"""% Each table is a file of its own: \input{tables/NAME} in a paper that uses booktabs and graphicx.
\documentclass[10pt]{article}
\usepackage[a4paper,landscape,margin=15mm]{geometry}
\usepackage[T1]{fontenc}
\usepackage{lmodern}
\usepackage{booktabs}
\usepackage{graphicx}
\begin{document}
"""


def write_latex(tables: Sequence[Grid], folder: Path) -> list[Path]:
    """Write `report.tex` and its tables under `tables/`; the paths, the document first."""
    named: dict[str, Grid] = {}
    for table in tables:
        twins = sum(name == table.label or name.startswith(f"{table.label}-nr") for name in named)
        named[f"{table.label}-nr{twins + 1}" if twins else table.label] = table
    paths = []
    for name, table in named.items():
        path = folder / "tables" / f"{name}.tex"
        write_text(path, latex(replace(table, label=name)))
        paths.append(path)
    shown = "".join(rf"\input{{tables/{name}}}" + "\n\\clearpage\n" for name in named)
    write_text(folder / "report.tex", PREAMBLE + shown + "\\end{document}\n")
    return [folder / "report.tex", *paths]


def latex(table: Grid) -> str:
    """The table for `booktabs` and `graphicx`; a long one in several."""
    parts = list(_parts(table))
    return "\n".join(_part(table, rows, number, len(parts)) for number, rows in enumerate(parts, 1))


def _parts(table: Grid) -> Iterator[tuple[tuple[Entry, ...], ...]]:
    """The rows of one page each; at least one part, so that a table without rows still has its head."""
    rows: list[tuple[Entry, ...]] = []
    lines = 0
    for row in table.body:
        height = 2 if any(cell.under for cell in row) else 1
        if rows and lines + height > LINES:
            yield tuple(rows)
            rows, lines = [], 0
        rows.append(row)
        lines += height
    yield tuple(rows)


def _part(table: Grid, rows: Sequence[Sequence[Entry]], number: int, parts: int) -> str:
    told = rf" ({number} of {parts})" if parts > 1 else ""
    label = "" if number > 1 else rf"\label{{tab:{table.label}}}"
    lines = [r"\begin{table}[htbp]", r"\centering", rf"\caption{{{tex(_caption(table.caption))}{told}}}{label}"]
    # As wide as it is, and never wider than the line.
    lines += [r"\resizebox{\ifdim\width>\linewidth\linewidth\else\width\fi}{!}{%"]
    lines += [rf"\begin{{tabular}}{{{table.alignment}}}", r"\toprule"]
    lines += [" & ".join(map(_head, table.head, table.alignment)) + r" \\", r"\midrule"]
    lines += [" & ".join(map(_entry, row, table.alignment)) + r" \\" for row in rows]
    lines += [r"\bottomrule", r"\end{tabular}}"]
    if number == parts and table.notes:
        notes = "\\\\\n".join(tex(note) for note in table.notes)
        lines += [
            r"\par\smallskip",
            rf"\begin{{minipage}}{{\linewidth}}\footnotesize\raggedright {notes}\end{{minipage}}",
        ]
    return "\n".join([*lines, r"\end{table}"]) + "\n"


def _caption(text: str) -> str:
    """LaTeX numbers its tables itself: a number of the paper's is said to be the paper's."""
    found = _PAPERS_OWN.match(text)
    return f"{found[2]} ({found[1]} of the paper)" if found else text


def tex(text: str) -> str:
    """Text in which nothing is a LaTeX command, in characters that pdfLaTeX's T1 fonts have."""
    return "".join(map(_character, text.replace("\n", " ")))


def _character(letter: str) -> str:
    if letter in _LATEX:
        return _LATEX[letter]
    if ord(letter) <= _LAST_LATIN:
        return letter if letter.isprintable() else " "
    plain = unicodedata.normalize("NFKD", letter).encode("ascii", "ignore").decode()
    return plain or f"[U+{ord(letter):04X}]"


def _head(name: str, side: str) -> str:
    lines = textwrap.wrap(name, _HEAD_WIDTH, break_long_words=False, break_on_hyphens=False) or [""]
    return _stacked([tex(line) for line in lines], side)


def _entry(cell: Entry, side: str) -> str:
    text = tex(cell.text)
    text = rf"\textbf{{{text}}}" if cell.bold and cell.text else text
    return _stacked([text, rf"{{\scriptsize {tex(cell.under)}}}"], side) if cell.under else text


def _stacked(lines: Sequence[str], side: str) -> str:
    text = r"\\".join(lines)
    return text if len(lines) == 1 else rf"\shortstack[{side}]{{{text}}}"
