"""A few static pictures as inline SVG, in the page's own colours: no script draws them, so they also print."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

WIDTH, HEIGHT = 420, 240
LEFT, RIGHT, TOP, BOTTOM = 58, 12, 14, 40


@dataclass(frozen=True)
class Axis:
    """Where values lie between two pixels.

    Attributes:
        ticks: values with their texts.
    """

    low: float
    high: float
    start: float
    end: float
    ticks: tuple[tuple[float, str], ...]
    log: bool = False

    def at(self, value: float) -> float:
        """The pixel of a value."""
        low, high, here = (math.log10(x) if self.log else x for x in (self.low, self.high, value))
        share = 0.5 if high == low else (here - low) / (high - low)
        return self.start + share * (self.end - self.start)


def number_axis(values: Sequence[float], start: float, end: float, log: bool = False, count: int = 4) -> Axis:
    """An axis over numbers with a little air at both ends."""
    low, high = min(values), max(values)
    if log:
        edge = (high / low) ** 0.03 if high > low else 1.2
        low, high = low / edge, high * edge
        ticks = [10 ** (math.log10(low) + (math.log10(high) - math.log10(low)) * i / count) for i in range(count + 1)]
    else:
        edge = 0.03 * (high - low) or 0.03 * abs(high) or 1.0
        low, high = low - edge, high + edge
        ticks = [low + (high - low) * i / count for i in range(count + 1)]
    return Axis(low, high, start, end, tuple((tick, f"{tick:.3g}") for tick in ticks), log)


def name_axis(names: Sequence[str], start: float, end: float) -> Axis:
    """An axis over names, numbered from 0."""
    return Axis(-0.5, len(names) - 0.5, start, end, tuple((float(i), name) for i, name in enumerate(names)))


def text(x: float, y: float, words: str, anchor: str = "middle", name: bool = False) -> str:
    """Words at a place."""
    kind = ' class="name"' if name else ""
    return f'<text{kind} x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(words)}</text>'


def dot(x: float, y: float, about: str, strong: bool = False) -> str:
    """A point that says what it is."""
    fill, size = ("var(--accent)", 4.5) if strong else ("var(--grey)", 3.2)
    return f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{size}" fill="{fill}"><title>{escape(about)}</title></circle>'


def line(points: Sequence[tuple[float, float]], strong: bool = False, about: str = "") -> str:
    """A polyline."""
    places = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    stroke = "var(--accent)" if strong else "var(--grey)"
    title = f"<title>{escape(about)}</title>" if about else ""
    width = 2 if strong else 1
    return f'<polyline points="{places}" fill="none" stroke="{stroke}" stroke-width="{width}">{title}</polyline>'


def frame(across: Axis, up: Axis, labels: tuple[str, str]) -> str:
    """Axes with ticks and titles."""
    parts = [f'<line class="axis" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{HEIGHT - BOTTOM}" y2="{HEIGHT - BOTTOM}"/>']
    for value, words in up.ticks:
        y = up.at(value)
        parts.append(f'<line class="gridline" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>')
        parts.append(text(LEFT - 5, y + 4, words, "end"))
    parts += [text(across.at(value), HEIGHT - BOTTOM + 14, words) for value, words in across.ticks]
    return "".join([*parts, text((LEFT + WIDTH) / 2, HEIGHT - 6, labels[0]), text(4, 9, labels[1], "start")])


def picture(parts: Sequence[str], about: str, width: int = WIDTH, height: int = HEIGHT) -> str:
    """A whole picture, with words for those who do not see it."""
    from markupsafe import Markup

    head = f'<svg viewBox="0 0 {width} {height}" width="{width}" height="{height}" role="img"'
    return Markup(f'{head} aria-label="{escape(about, quote=True)}">{"".join(parts)}</svg>')
