"""Corruptions of dermoscopic photographs, after the list that MedMNIST-C keeps for DermaMNIST.

Names and severities are those of Di Salvo, Doerrich and Ledig (2024, arXiv:2406.17536); the code is written from their
description, most of which goes back to Hendrycks and Dietterich (2019). What differs: the last two severities of the
black corner are put in rising order, lengths follow the size of the image, and `saturate`, which they
list for stained tissue and blood, is here as well, with severities of its own.

Each is a function of an `image`, uint8 [H, W, 3], of a `severity` from 1 to 5, and of a `generator` that draws its
accidents (a `_generator` where there are none); it returns uint8 [H, W, 3].
"""

from __future__ import annotations

import io
import string

import numpy as np
from PIL import Image, ImageDraw, ImageFont
from scipy.ndimage import convolve

from bench.analyses.corruptions.common import Corruption, Floats, Pixels, at, byte, resized, scaled, unit, zoomed

LUMINANCE = np.array([0.299, 0.587, 0.114])


def jpeg(image: Pixels, severity: int, _generator: np.random.Generator) -> Pixels:
    """JPEG at quality 30 to 7."""
    stored = io.BytesIO()
    Image.fromarray(image).save(stored, "JPEG", quality=at((30, 20, 15, 10, 7), severity))
    return np.asarray(Image.open(stored, formats=("JPEG",)).convert("RGB"))


def pixelate(image: Pixels, severity: int, _generator: np.random.Generator) -> Pixels:
    """Sides reduced to 70 to 25 %, then enlarged without interpolation."""
    share = at((0.7, 0.5, 0.4, 0.3, 0.25), severity)
    height, width = image.shape[:2]
    small = resized(image, max(1, int(height * share)), max(1, int(width * share)), Image.Resampling.BOX)
    return resized(small, height, width, Image.Resampling.NEAREST)


def gaussian_noise(image: Pixels, severity: int, generator: np.random.Generator) -> Pixels:
    """Added noise of standard deviation 0.04 to 0.26."""
    return byte(unit(image) + at((0.04, 0.08, 0.12, 0.18, 0.26), severity) * generator.standard_normal(image.shape))


def speckle_noise(image: Pixels, severity: int, generator: np.random.Generator) -> Pixels:
    """Noise in proportion to the intensity: 5 to 45 % of it."""
    share = at((0.05, 0.15, 0.2, 0.35, 0.45), severity)
    return byte(unit(image) * (1 + share * generator.standard_normal(image.shape)))


def impulse_noise(image: Pixels, severity: int, generator: np.random.Generator) -> Pixels:
    """1 to 17 % of the values replaced by 0 or 255, half each."""
    drawn = generator.random(image.shape)
    extreme = np.where(generator.random(image.shape) < 0.5, 0, 255)
    hit = drawn < at((0.01, 0.03, 0.06, 0.09, 0.17), severity)
    return np.where(hit, extreme, image).astype(np.uint8)


def shot_noise(image: Pixels, severity: int, generator: np.random.Generator) -> Pixels:
    """Photons counted: 60 to 5 at full intensity."""
    photons = at((60, 25, 18, 10, 5), severity)
    return byte(generator.poisson(unit(image) * photons) / photons)


def defocus_blur(image: Pixels, severity: int, _generator: np.random.Generator) -> Pixels:
    """A disk of radius 4 to 8 pixels, its rim softened by a Gaussian of 0.1 to 0.5 pixels."""
    radius, soft = at(((4, 0.1), (5, 0.2), (6, 0.3), (7, 0.4), (8, 0.5)), severity)
    return _filtered(image, disk(scaled(radius, image), scaled(soft, image)))


def disk(radius: float, soft: float) -> Floats:
    """A disk's kernel [m, m], summing to 1; each tap is the share of its pixel that the disk covers."""
    reach = int(np.ceil(radius + 3 * soft))
    fine = (np.arange((2 * reach + 1) * 9) - ((2 * reach + 1) * 9 - 1) / 2) / 9
    away = np.hypot(fine[:, None], fine[None, :])
    # A step of the softening's width: a Gaussian blur of the rim, as far as the profile goes.
    inside = 1 / (1 + np.exp(np.clip((away - radius) / max(soft * 0.6, 1e-3), -50, 50)))
    kernel: Floats = inside.reshape(2 * reach + 1, 9, 2 * reach + 1, 9).mean((1, 3))
    normed: Floats = kernel / kernel.sum()
    return normed


def motion_blur(image: Pixels, severity: int, generator: np.random.Generator) -> Pixels:
    """A one-sided streak of 10 to 20 pixels, fading as a Gaussian of 5 to 15 pixels."""
    reach, width = at(((10, 5), (15, 5), (15, 8), (15, 12), (20, 15)), severity)
    angle = generator.uniform(-np.pi / 4, np.pi / 4)
    return _filtered(image, streak(scaled(reach, image), scaled(width, image), angle))


def streak(reach: float, width: float, angle: float) -> Floats:
    """A one-sided streak's kernel [m, m], summing to 1, from the middle to `reach` pixels along `angle` (radians).

    Args:
        reach: its length, in pixels.
        width: standard deviation of the Gaussian along it, in pixels.
        angle: of its direction, in radians.
    """
    size = int(np.ceil(reach))
    kernel = np.zeros((2 * size + 1, 2 * size + 1))
    along = (np.arange(20 * size) + 0.5) * reach / (20 * size)
    rows, columns = size + along * np.sin(angle), size + along * np.cos(angle)
    np.add.at(kernel, (np.rint(rows).astype(int), np.rint(columns).astype(int)), np.exp(-0.5 * (along / width) ** 2))
    normed: Floats = kernel / kernel.sum()
    return normed


def _filtered(image: Pixels, kernel: Floats) -> Pixels:
    return byte(convolve(unit(image), kernel[:, :, None], mode="reflect"))


def zoom_blur(image: Pixels, severity: int, _generator: np.random.Generator) -> Pixels:
    """The mean of enlargements from 1 to 1.10 ... 1.30 times."""
    end, step = at(((1.10, 0.01), (1.15, 0.01), (1.20, 0.02), (1.25, 0.02), (1.30, 0.03)), severity)
    factors = np.arange(1, end + step / 2, step)
    return byte(np.mean([unit(zoomed(image, factor)) for factor in factors], axis=0))


def brightness_up(image: Pixels, severity: int, _generator: np.random.Generator) -> Pixels:
    """Intensities times 1.1 to 1.5."""
    return byte(unit(image) * at((1.1, 1.2, 1.3, 1.4, 1.5), severity))


def brightness_down(image: Pixels, severity: int, _generator: np.random.Generator) -> Pixels:
    """Intensities times 0.9 to 0.5."""
    return byte(unit(image) * at((0.9, 0.8, 0.7, 0.6, 0.5), severity))


def contrast_up(image: Pixels, severity: int, _generator: np.random.Generator) -> Pixels:
    """Distances from the mean luminance times 1.1 to 1.6."""
    return _contrasted(image, at((1.1, 1.2, 1.3, 1.4, 1.6), severity))


def contrast_down(image: Pixels, severity: int, _generator: np.random.Generator) -> Pixels:
    """Distances from the mean luminance times 0.8 to 0.4."""
    return _contrasted(image, at((0.8, 0.7, 0.6, 0.5, 0.4), severity))


def _contrasted(image: Pixels, factor: float) -> Pixels:
    values = unit(image)
    middle = (values @ LUMINANCE).mean()
    return byte(middle + factor * (values - middle))


def saturate(image: Pixels, severity: int, _generator: np.random.Generator) -> Pixels:
    """Distances from each pixel's own gray times 1.1 to 1.5."""
    values = unit(image)
    gray = (values @ LUMINANCE)[..., None]
    return byte(gray + at((1.1, 1.2, 1.3, 1.4, 1.5), severity) * (values - gray))


def black_corner(image: Pixels, severity: int, _generator: np.random.Generator) -> Pixels:
    """Black outside a circle of 1.10 to 0.90 times the half side: the rim of the dermoscope's field."""
    height, width = image.shape[:2]
    radius = at((1.10, 1.05, 1.00, 0.95, 0.90), severity) * min(height, width) / 2
    rows, columns = np.arange(height) - (height - 1) / 2, np.arange(width) - (width - 1) / 2
    inside = np.hypot(rows[:, None], columns[None, :]) <= radius
    return np.where(inside[..., None], image, 0).astype(np.uint8)


def characters(image: Pixels, severity: int, generator: np.random.Generator) -> Pixels:
    """1 to 6 pieces of black writing of 6 to 10 letters, 0.14 to 0.18 of the width a line: ink beside a lesion."""
    texts, letters, share = at(((1, 6, 0.14), (2, 7, 0.15), (3, 8, 0.16), (4, 9, 0.17), (6, 10, 0.18)), severity)
    height, width = image.shape[:2]
    words = ["".join(generator.choice(list(string.ascii_letters + string.digits), 10)) for _ in range(6)]
    places = generator.uniform((0.0, 0.02), (0.4, 0.85), (6, 2))
    drawn = Image.fromarray(image.copy())
    font = ImageFont.load_default(max(4, round(share * width)))
    for word, (left, top) in list(zip(words, places, strict=True))[:texts]:
        ImageDraw.Draw(drawn).text((left * width, top * height), word[:letters], fill=(0, 0, 0), font=font)
    return np.asarray(drawn)


DERMOSCOPY: dict[str, Corruption] = {
    function.__name__: function
    for function in (
        jpeg,
        pixelate,
        gaussian_noise,
        speckle_noise,
        impulse_noise,
        shot_noise,
        defocus_blur,
        motion_blur,
        zoom_blur,
        brightness_up,
        brightness_down,
        contrast_up,
        contrast_down,
        saturate,
        black_corner,
        characters,
    )
}
