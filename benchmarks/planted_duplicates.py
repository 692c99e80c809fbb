"""How many planted duplicates the audit finds, and how many of the pairs that it names were not planted.

    python benchmarks/planted_duplicates.py FIGSHARE HAM10000 [--seed 0]

FIGSHARE is a folder with the JPEG copy of the brain slices (`index.csv`), HAM10000 one with the skin images. 2000 real
images are drawn: 1000 slices (among them many neighbouring slices of one patient, the hard case) and one image each of
1000 lesions. 200 of them, drawn again, are planted as changed copies: 50 re-encoded as JPEG of quality 50, 50 resized
by 0.5, 50 mirrored, 50 brightened by 10 % (the last three saved as JPEG of quality 90). A second round
does all four to each of the 200. A planted copy counts as found when the pair of it and its original is named.
Every other named pair counts as a false alarm, even if it is a duplicate that was in the data all along; such
pairs are printed, to be looked at.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

PLANTED = 200
Change = Callable[[Image.Image], Image.Image]


def half(picture: Image.Image) -> Image.Image:
    return picture.resize((picture.width // 2, picture.height // 2), Image.Resampling.BICUBIC)


def mirrored(picture: Image.Image) -> Image.Image:
    return picture.transpose(Image.Transpose.FLIP_LEFT_RIGHT)


def brighter(picture: Image.Image) -> Image.Image:
    return picture.point(lambda value: min(255, round(value * 1.1)))


CHANGES: dict[str, tuple[Change, int]] = {
    "quality 50": (lambda picture: picture, 50),
    "resized by 0.5": (half, 90),
    "mirrored": (mirrored, 90),
    "brightness +10 %": (brighter, 90),
}
ALL_AT_ONCE: dict[str, tuple[Change, int]] = {"all four": (lambda picture: brighter(mirrored(half(picture))), 50)}


def drawn(figshare: Path, ham: Path, seed: int) -> list[Path]:
    from bench.core.config import Protocol
    from bench.data.sources.figshare import read as read_figshare
    from bench.data.sources.isic import read_ham10000

    generator = np.random.default_rng(seed)
    slices, skin = read_figshare(figshare, Protocol()), read_ham10000(ham, Protocol())
    one_a_lesion = np.unique(skin.groups, return_index=True)[1]
    brain = [figshare / slices.ids[row] for row in generator.choice(len(slices), 1000, replace=False)]
    names = {path.stem: path for path in ham.rglob("ISIC_*.jpg")}
    return brain + [names[str(skin.ids[row])] for row in generator.choice(one_a_lesion, 1000, replace=False)]


def plant(real: list[Path], changes: dict[str, tuple[Change, int]], folder: Path, seed: int) -> dict[str, str]:
    """Lay out originals and planted copies in two class folders; returns the change by the copy's id."""
    (folder / "real").mkdir(parents=True)
    (folder / "planted").mkdir()
    for path in real:
        (folder / "real" / path.name).symlink_to(path)
    chosen = np.random.default_rng(seed + 1).choice(len(real), PLANTED, replace=False)
    made = {}
    for number, row in enumerate(chosen):
        name = list(changes)[number * len(changes) // PLANTED]
        change, quality = changes[name]
        with Image.open(real[row]) as picture:
            change(picture).save(folder / "planted" / real[row].name, quality=quality)
        made[f"planted/{real[row].name}"] = name
    return made


def measure(title: str, real: list[Path], changes: dict[str, tuple[Change, int]], folder: Path, seed: int) -> None:
    from bench.data.audit.duplicates import same_pictures, signatures
    from bench.data.sources.folder import read_folder

    made = plant(real, changes, folder, seed)
    table = read_folder("planted", folder)
    pairs = {(str(table.ids[match.left]), str(table.ids[match.right])) for match in same_pictures(signatures(table))}
    wanted = {(copy, copy.replace("planted/", "real/")): change for copy, change in made.items()}
    found = pairs & set(wanted)
    print(f"{title}: {len(found)} of {PLANTED} found ({len(found) / PLANTED:.1%}), {len(pairs)} pairs named")
    for name in changes:
        planted = [pair for pair, change in wanted.items() if change == name]
        print(f"  {name}: {sum(pair in found for pair in planted)} of {len(planted)}")
    false = sorted(pairs - set(wanted))
    print(f"  not planted: {len(false)} ({len(false) / max(len(pairs), 1):.2%} of the pairs named)")
    for pair in false:
        print("   ", *pair)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("figshare", type=Path)
    parser.add_argument("ham10000", type=Path)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        os.environ["BENCH_CACHE"] = f"{scratch}/cache"
        real = drawn(options.figshare.resolve(), options.ham10000.resolve(), options.seed)
        measure("one change each", real, CHANGES, Path(scratch) / "one", options.seed)
        measure("all four at once", real, ALL_AT_ONCE, Path(scratch) / "all", options.seed)


if __name__ == "__main__":
    main()
