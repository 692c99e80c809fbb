"""The pictures of the phantoms: smooth random fields, an anatomy, a lesion whose cues depend on its class."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from bench.data.table import Pixels

Field = NDArray[np.float64]
Random = np.random.Generator
BRAIN_CLASSES = ("rim", "diffuse", "midline")
SKIN_CLASSES = ("plain", "streaked", "crusted", "pearly", "scaly", "dimpled", "vascular")

# Contrast, noise and bias field of a site's scanner or camera.
_SITES = ((1.0, 0.02, 0.15), (0.88, 0.035, 0.3), (1.1, 0.028, 0.22))

# Per class: mean distance from the head's centre and its spread, mean radius, raggedness, brightness, ring.
_BRAIN = ((0.72, 0.08, 0.21, 0.04, 0.42, 0.0), (0.48, 0.12, 0.30, 0.16, 0.34, 0.7), (0.12, 0.09, 0.15, 0.04, 0.40, 0.1))

# Per class: colour (RGB), radius, raggedness, texture's frequency and strength, bright spots, red lines.
_SKIN: tuple[tuple[tuple[float, float, float], float, float, int, float, float, float], ...] = (
    ((0.52, 0.34, 0.25), 0.42, 0.07, 9, 0.06, 0.0, 0.0),
    ((0.33, 0.22, 0.20), 0.52, 0.24, 13, 0.16, 0.1, 0.0),
    ((0.55, 0.42, 0.30), 0.50, 0.12, 26, 0.14, 0.3, 0.0),
    ((0.72, 0.50, 0.47), 0.40, 0.12, 8, 0.07, 0.5, 0.5),
    ((0.74, 0.47, 0.42), 0.50, 0.18, 30, 0.12, 0.6, 0.1),
    ((0.62, 0.42, 0.35), 0.34, 0.05, 9, 0.06, 0.9, 0.0),
    ((0.62, 0.22, 0.26), 0.36, 0.08, 12, 0.12, 0.0, 0.9),
)


def draw_brain(label: int, site: int, anatomy: int, view: int, size: int) -> Pixels:
    """A brain-like slice, uint8 [size, size]. `anatomy` is shared by a patient's slices, `view` is the slice's own.

    Args:
        label: the class number.
        site: the number of the hospital, whose scanner or light it is.
        anatomy, view: seeds.
        size: the side in pixels.
    """
    shared, own = _random(anatomy), _random(view)
    x, y = _grid(size)
    width, height, tilt = shared.uniform(0.66, 0.76), shared.uniform(0.8, 0.9), shared.normal(0, 0.06)
    level = own.uniform(0.9, 1.0)
    x, y = _turned(x - own.normal(0, 0.02), y - own.normal(0, 0.02), tilt + own.normal(0, 0.02))
    radius = np.hypot(x / (width * level), y / (height * level))
    gyri = _field(shared, 14, size) * 0.6 + _field(own, 20, size) * 0.4
    image = _inside(radius, 0.9) * (0.36 + 0.055 * gyri) + _ring(radius, 0.97, 0.04) * shared.uniform(0.5, 0.8)
    image -= 0.28 * _ventricles(x, y, shared, own)
    image += _brain_lesion(label, x / (width * level), y / (height * level), shared, own, size) * _inside(radius, 0.93)
    return _developed(image[:, :, None], site, own, size)[:, :, 0]


def _ventricles(x: Field, y: Field, shared: Random, own: Random) -> Field:
    spread, length = shared.uniform(0.08, 0.14), shared.uniform(0.16, 0.3) * own.uniform(0.6, 1.1)
    sides = [np.hypot((x - side * spread) / 0.06, (y + 0.05) / length) for side in (-1.0, 1.0)]
    return np.maximum(*(_inside(side, 1.0, 6.0) for side in sides))


def _brain_lesion(label: int, x: Field, y: Field, shared: Random, own: Random, size: int) -> Field:
    distance, spread, mean_radius, ragged, bright, ring = _BRAIN[label]
    away, angle = shared.normal(distance, spread), shared.uniform(0, 2 * np.pi)
    radius = mean_radius * shared.uniform(0.65, 1.45) * own.uniform(0.75, 1.1)
    left, top = away * np.cos(angle) + own.normal(0, 0.02), away * np.sin(angle) + own.normal(0, 0.02)
    outline = np.hypot(x - left, y - top) / radius + ragged * 2 * _field(shared, 9, size)
    body = _inside(outline, 1.0, 9.0)
    hollow = shared.uniform(0, 1) < ring
    inner = body * (1 - 0.9 * _inside(outline, 0.6, 7.0)) if hollow else body
    return bright * shared.uniform(0.55, 1.3) * (inner + ragged * body * _field(own, 22, size))


def draw_skin(label: int, site: int, anatomy: int, view: int, size: int) -> Pixels:
    """A skin-like lesion, uint8 [size, size, 3]. `anatomy` is shared by a lesion's pictures, `view` is one's own.

    Args:
        label: the class number.
        site: the number of the hospital, whose scanner or light it is.
        anatomy, view: seeds.
        size: the side in pixels.
    """
    shared, own = _random(anatomy), _random(view)
    x, y = _grid(size)
    skin = np.array([0.84, 0.66, 0.56]) * shared.uniform(0.85, 1.08) + shared.normal(0, 0.02, 3)
    grain = 0.03 * _field(shared, 24, size) + 0.03 * _field(own, 6, size)
    image = skin * (1 + grain[:, :, None])
    turned = _turned(x, y, own.uniform(0, 2 * np.pi))
    body, texture = _skin_lesion(label, *turned, shared, own, size)
    image = image * (1 - body[:, :, None]) + texture * body[:, :, None]
    image = _hairs(image, x, y, own)
    return _developed(image, site, own, size)


def _skin_lesion(label: int, x: Field, y: Field, shared: Random, own: Random, size: int) -> tuple[Field, Field]:
    colour, mean_radius, ragged, frequency, strength, spots, lines = _SKIN[label]
    radius = mean_radius * shared.uniform(0.7, 1.3) * own.uniform(0.9, 1.1)
    waves = sum(shared.normal(0, 1) * np.cos(k * np.arctan2(y, x) + shared.uniform(0, 6.3)) for k in (2, 3, 5))
    stretch = shared.uniform(0.75, 1.0)
    outline = np.hypot(x, y / stretch) / radius + ragged * waves
    body = _inside(outline, 1.0, shared.uniform(7, 14)) * shared.uniform(0.7, 1.0)
    tone = np.array(colour) * shared.uniform(0.85, 1.15) + shared.normal(0, 0.035, 3)
    texture = tone * (1 + strength * 2 * _field(shared, frequency, size))[:, :, None]
    texture += spots * shared.uniform(0.1, 0.5) * (_field(shared, frequency + 5, size) > 0.9)[:, :, None]
    red = lines * shared.uniform(0.3, 1.2) * np.exp(-((_field(shared, 10, size) / 0.12) ** 2))
    return body, texture + red[:, :, None] * np.array([0.12, -0.12, -0.10])


def _hairs(image: Field, x: Field, y: Field, own: Random) -> Field:
    for _ in range(int(own.integers(0, 4))):
        angle, offset, bend = own.uniform(0, np.pi), own.uniform(-0.8, 0.8), own.normal(0, 0.3)
        along, across = _turned(x, y, angle)
        hair = np.exp(-(((across - offset - bend * along**2) / 0.012) ** 2))
        image = image * (1 - 0.6 * hair[:, :, None])
    return image


def _developed(image: Field, site: int, own: Random, size: int) -> Pixels:
    """A site's contrast, uneven light and noise on an image [size, size, C] in 0 ... 1."""
    contrast, noise, bias = _SITES[site]
    light = 1 + bias * own.uniform(0.5, 1) * _field(own, 3, size)[:, :, None] / 3
    grain = own.normal(0, noise * own.uniform(0.7, 1.3), image.shape)
    shown = image * contrast * own.uniform(0.93, 1.07) * light + grain
    return np.clip(np.rint(shown * 255), 0, 255).astype(np.uint8)


def _random(seed: int) -> Random:
    return np.random.Generator(np.random.PCG64(seed))


def _grid(size: int) -> tuple[Field, Field]:
    line = (np.arange(size) + 0.5) / size * 2 - 1
    x, y = np.meshgrid(line, line)
    return x, y


def _turned(x: Field, y: Field, angle: float) -> tuple[Field, Field]:
    return x * np.cos(angle) + y * np.sin(angle), y * np.cos(angle) - x * np.sin(angle)


def _inside(radius: Field, edge: float, sharpness: float = 20.0) -> Field:
    """1 inside, 0 outside, with a soft edge."""
    return 1 / (1 + np.exp(np.clip((radius - edge) * sharpness, -40, 40)))


def _ring(radius: Field, middle: float, width: float) -> Field:
    return np.exp(-(((radius - middle) / width) ** 2))


def _field(random: Random, cells: int, size: int) -> Field:
    """A smooth random field of unit-variance knots, `cells` knots a side, the same at every size."""
    knots = random.normal(0, 1, (cells + 1, cells + 1))
    return _stretched(_stretched(knots, size).T, size).T


def _stretched(knots: Field, size: int) -> Field:
    """Interpolate rows of knots [C + 1, D] smoothly to [size, D]."""
    # No matrix product: on arrays this small, the threads of a BLAS cost more than the arithmetic.
    cells = len(knots) - 1
    place = (np.arange(size) + 0.5) / size * cells
    low = np.minimum(place.astype(int), cells - 1)
    share = (place - low)[:, None]
    share = share * share * (3 - 2 * share)
    between: Field = knots[low] * (1 - share) + knots[low + 1] * share
    return between
