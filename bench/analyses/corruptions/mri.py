"""Corruptions of MRI slices: noise, field, motion and sampling, as they arise in the scanner.

Slices are gray: the mean over the colours is corrupted and given to all three. Intensities are 0-1 of the stored image;
rows are the phase-encoding direction. The stored picture is taken for the magnitude image, so that k-space is the
Fourier transform of it: the phase that a scanner also sees is not there. Definitions follow Gudbjartsson and Patz 1995
(Rician noise) and Shaw et al. 2019 (motion as k-space segments of moved images; ghosts, spikes, bias field).

Each is a function of an `image`, uint8 [H, W, 3], of a `severity` from 1 to 5, and of a `generator` that draws its
accidents (a `_generator` where there are none); it returns uint8 [H, W, 3].
"""

from __future__ import annotations

import numpy as np
from PIL import Image

from bench.analyses.corruptions.common import Corruption, Floats, Pixels, at, byte, resized, scaled, unit


def gray(image: Pixels) -> Floats:
    """The mean over the colours, 0-1 [H, W]."""
    mean: Floats = unit(image).mean(axis=2)
    return mean


def coloured(values: Floats) -> Pixels:
    """Gray values [H, W] as three equal colours, uint8 [H, W, 3]."""
    return np.repeat(byte(values)[..., None], 3, axis=2)


def rician_noise(image: Pixels, severity: int, generator: np.random.Generator) -> Pixels:
    """The magnitude of a signal with Gaussian noise of 0.02 to 0.20 in both channels."""
    return coloured(rician(gray(image), at((0.02, 0.05, 0.08, 0.13, 0.20), severity), generator))


def rician(signal: Floats, sigma: float, generator: np.random.Generator) -> Floats:
    """|s + sigma (a + i b)|, a and b standard normal: its square has the mean s^2 + 2 sigma^2.

    Args:
        signal: s.
        sigma: the standard deviation of the noise in either channel.
        generator: of the noise.
    """
    real, imaginary = generator.standard_normal((2, *signal.shape)) * sigma
    magnitude: Floats = np.hypot(signal + real, imaginary)
    return magnitude


def bias_field(image: Pixels, severity: int, generator: np.random.Generator) -> Pixels:
    """A smooth factor between exp(-a) and exp(a), a 0.15 to 0.9: an inhomogeneous receive coil."""
    strength = at((0.15, 0.3, 0.45, 0.65, 0.9), severity)
    return coloured(gray(image) * np.exp(strength * field(image.shape[0], image.shape[1], generator)))


def field(height: int, width: int, generator: np.random.Generator) -> Floats:
    """A random polynomial of degree 3 in both directions, scaled to reach from -1 to 1 [height, width].

    Args:
        height, width: in pixels.
        generator: of the coefficients.
    """
    rows = np.polynomial.legendre.legvander(np.linspace(-1, 1, height), 3)
    columns = np.polynomial.legendre.legvander(np.linspace(-1, 1, width), 3)
    degrees = np.add.outer(np.arange(4), np.arange(4))
    weights = generator.standard_normal((4, 4)) * ((degrees > 0) & (degrees < 4))
    drawn: Floats = rows @ weights @ columns.T
    spanned: Floats = 2 * (drawn - drawn.min()) / (drawn.max() - drawn.min()) - 1
    return spanned


def ghosting(image: Pixels, severity: int, generator: np.random.Generator) -> Pixels:
    """Every n-th line of k-space weaker by 15 to 75 %: n - 1 ghosts along the rows, n 2, 3 or 4 by chance.

    The middle of k-space, a fiftieth of the lines, is left as it is: the ghosts, not the brightness, are the accident.
    """
    return coloured(ghosted(gray(image), at((0.15, 0.3, 0.45, 0.6, 0.75), severity), int(generator.integers(2, 5))))


def ghosted(signal: Floats, weakening: float, every: int) -> Floats:
    """The signal with every `every`-th line of k-space times 1 - weakening, but for the middle fiftieth of them."""
    spectrum = np.fft.fft(signal, axis=0)
    lines = np.arange(len(signal)) % every == 0
    lowest = np.abs(np.fft.fftfreq(len(signal), 1 / len(signal))) <= len(signal) / 100
    spectrum[lines & ~lowest] *= 1 - weakening
    return np.abs(np.fft.ifft(spectrum, axis=0))


def motion(image: Pixels, severity: int, generator: np.random.Generator) -> Pixels:
    """The head moves by up to 2 to 14 pixels between four stretches of the acquisition; the first has the middle."""
    most = scaled(at((2, 4, 7, 10, 14), severity), image)
    shifts = generator.uniform(-1, 1, (3, 2))
    starts = generator.uniform(0.04, 0.25, 3)
    return coloured(moved(gray(image), shifts * most, np.sort(starts)))


def moved(signal: Floats, shifts: Floats, starts: Floats) -> Floats:
    """The signal acquired while it moves.

    Args:
        shifts: rows and columns, in pixels, of the signal in each later stretch [m, 2].
        starts: the distance from the middle of k-space, in cycles a pixel (0 to 0.5), at which each begins [m], rising.
    """
    down, right = (np.fft.fftfreq(length) for length in signal.shape)
    stretch = np.searchsorted(starts, np.abs(down), side="right")
    by_line = np.vstack([np.zeros((1, 2)), shifts])[stretch]
    phase = by_line[:, :1] * down[:, None] + by_line[:, 1:] * right[None, :]
    return np.abs(np.fft.ifft2(np.fft.fft2(signal) * np.exp(-2j * np.pi * phase)))


def gamma(image: Pixels, severity: int, generator: np.random.Generator) -> Pixels:
    """Intensities to the power of 1.15 to 2.2, or its inverse, by chance: another window."""
    power = at((1.15, 1.3, 1.5, 1.8, 2.2), severity)
    return coloured(gray(image) ** (power if generator.random() < 0.5 else 1 / power))


def downsampling(image: Pixels, severity: int, _generator: np.random.Generator) -> Pixels:
    """Sides reduced 1.5 to 6 times by means over areas, then enlarged by bilinear interpolation."""
    factor = at((1.5, 2, 3, 4, 6), severity)
    height, width = image.shape[:2]
    small = resized(image, max(1, round(height / factor)), max(1, round(width / factor)), Image.Resampling.BOX)
    return coloured(gray(resized(small, height, width, Image.Resampling.BILINEAR)))


def spike(image: Pixels, severity: int, generator: np.random.Generator) -> Pixels:
    """One wrong value in k-space: a wave of amplitude 0.04 to 0.4 over the image, 0.04 to 0.2 cycles a pixel."""
    signal = gray(image)
    height, width = signal.shape
    frequency, angle, phase = generator.uniform((0.04, 0, 0), (0.2, np.pi, 2 * np.pi))
    down, right = np.round(frequency * np.array([np.sin(angle) * height, np.cos(angle) * width]))
    turns = down * np.arange(height)[:, None] / height + right * np.arange(width)[None, :] / width
    return coloured(signal + at((0.04, 0.08, 0.14, 0.24, 0.4), severity) * np.cos(2 * np.pi * turns + phase))


def crop(image: Pixels, severity: int, generator: np.random.Generator) -> Pixels:
    """A field of view of 95 to 70 % of the side, somewhere in the image, enlarged to its size."""
    share = at((0.95, 0.9, 0.84, 0.77, 0.7), severity)
    height, width = image.shape[:2]
    left, top = generator.random(2) * (1 - share) * np.array([width, height])
    box = (float(left), float(top), float(left + share * width), float(top + share * height))
    cut = Image.fromarray(image).resize((width, height), Image.Resampling.BILINEAR, box=box)
    return coloured(gray(np.asarray(cut)))


def rotation(image: Pixels, severity: int, generator: np.random.Generator) -> Pixels:
    """A turn of 4 to 30 degrees, either way, about the middle; the corners are black."""
    degrees = at((4, 8, 14, 21, 30), severity) * (1 if generator.random() < 0.5 else -1)
    return coloured(gray(np.asarray(Image.fromarray(image).rotate(degrees, Image.Resampling.BILINEAR))))


MRI: dict[str, Corruption] = {
    function.__name__: function
    for function in (
        rician_noise,
        bias_field,
        ghosting,
        motion,
        gamma,
        downsampling,
        spike,
        crop,
        rotation,
    )
}
