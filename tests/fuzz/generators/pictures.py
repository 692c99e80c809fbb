"""Pictures, tables of pictures, and folders of them."""

from __future__ import annotations

import functools
import io
import random
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

from tests.fuzz.generators.nonsense import Invocation, Small, flipped, harmed, npy, odd, word

MODES = {
    "PNG": ("RGB", "L", "1", "P", "RGBA", "LA", "I;16"),
    "TIFF": ("RGB", "L", "1", "P", "RGBA", "I", "F", "CMYK", "LAB"),
    "GIF": ("RGB", "L", "P"),
    "BMP": ("RGB", "L", "1", "P"),
    "JPEG": ("RGB", "L", "CMYK"),
    "WEBP": ("RGB", "RGBA"),
}
SIZES = ((1, 1), (16, 16), (32, 20), (4000, 9), (8, 8), (7, 90))
NAMES = ("a/0.png", "b/0.png", "../x.png", "/etc/hostname", "", "\0", "a/0", "a" * 300, "a/../a/0.png", "ü.png", "0")
DISTRIBUTIONS = ("figshare-brain", "ham10000", "isic2019", "isic2017", "br35h", "brain-kaggle", "medmnist:breastmnist")


@functools.cache
def _encoded(kind: str, mode: str, size: tuple[int, int]) -> bytes:
    stream = io.BytesIO()
    Image.new(mode, size).save(stream, kind)
    return stream.getvalue()


def picture(random: random.Random) -> bytes:
    """An encoded picture of any format and mode, often harmed; or a program's text that calls itself one."""
    if random.random() < 0.05:
        return random.choice(
            [b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 64 64\nshowpage\n", b"<svg/>", b"P6 1 1 255 "]
        )
    kind = random.choice(sorted(MODES))
    data = _encoded(kind, random.choice(MODES[kind]), random.choice(SIZES) if random.random() < 0.3 else (16, 16))
    if random.random() < 0.85:
        return data
    return flipped(random, data) if random.random() < 0.5 else harmed(random, data)


def images(random: random.Random, folder: Path, small: Small) -> Invocation:
    """Files that call themselves pictures, predicted by a finished cell."""
    names = []
    for number in range(random.randrange(1, 4)):
        path = folder / f"{number}{random.choice(['.png', '.jpg', '.tif', '', '.gif'])}"
        if random.random() < 0.1:
            odd(random, path)
        else:
            path.write_bytes(picture(random))
        names.append(str(path))
    if random.random() < 0.8:
        # The network's answer takes ten times as long as all the rest.
        return Invocation(lambda: [_shape(Path(name)) for name in names])
    (cell, *_) = sorted((small.run / "cells").iterdir())
    options = random.choice([[], ["--json"], ["--csv", str(folder / random.choice(["a.csv", ".", "b/c.csv"]))]])
    return Invocation(["predict", str(cell), *names, *options], (0, 1, 2))


def _shape(path: Path) -> tuple[int, ...]:
    from bench.data.images.files import decode

    return decode(path).shape


def folders(random: random.Random, folder: Path, small: Small) -> Invocation:
    """A folder of pictures, some of which are none, added as a dataset or as a known distribution."""
    root = folder / "set"
    root.mkdir()
    known = random.choice(DISTRIBUTIONS) if random.random() < 0.4 else "fuzzed"
    names = [
        "a",
        "b",
        "train",
        "test",
        "ü",
        "c d",
        "yes",
        "no",
        "Training",
        "Testing",
        "glioma_tumor",
        "..a",
        "a\n",
        "\udce9",
    ]
    for name in random.sample(names, random.randrange(1, 4)):
        inner = root / name / random.choice(["", "", "x", "yes"])
        inner.mkdir(parents=True)
        for number in range(random.randrange(5)):
            path = inner / f"{number}.{random.choice(['png', 'png', 'jpg', 'mat', 'txt'])}"
            odd(random, path) if random.random() < 0.05 else path.write_bytes(picture(random))
    if random.random() < 0.1:
        (root / "loop").symlink_to(root)
    if random.random() < 0.2:
        (root / random.choice(["index.csv", "cvind.mat", "breastmnist.npz"])).write_bytes(_table(random))
    return _added(random, known, root)


def _added(random: random.Random, name: str, path: Path) -> Invocation:
    options = [
        part
        for option in ("--kind", "--licence", "--label", "--group", "--split")
        if random.random() < 0.1
        for part in (option, word(random))
    ]
    return Invocation(["data", "add", name, str(path), *options], env=own_home(path.parent))


def own_home(folder: Path) -> dict[str, str]:
    """Environment in which datasets are remembered for one invocation alone."""
    return {"BENCH_HOME": str(folder / "home")}


def tables(random: random.Random, folder: Path, small: Small) -> Invocation:
    """A CSV of pictures with anything in it, added as a dataset."""
    root = folder / "set"
    for name in ("a", "b"):
        (root / name).mkdir(parents=True)
        (root / name / "0.png").write_bytes(picture(random))
    path = root / random.choice(["set.csv", "index.csv", "set.tsv"])
    if random.random() < 0.05:
        odd(random, path)
    else:
        path.write_bytes(_table(random))
    name = random.choice(["fuzzed", "fuzzed", "fuzzed", "ham10000", "figshare-brain", word(random)])
    invocation = _added(random, name, random.choice([path, root]))
    return Invocation([*invocation.what, *(["--allow-outside"] * (random.random() < 0.3))], env=invocation.env)  # type: ignore[misc]


def _table(random: random.Random) -> bytes:
    headers = [
        "image,label",
        "image",
        "image;label",
        "image,image",
        "",
        "image\tlabel",
        "image,label,group,site,split",
        "\ufeffimage,label",
        "a,b,c",
        "image_id,dx,lesion_id",
        ",".join("c" * 600),
        '"image","label"',
        "file,class,pid",
    ]
    header = random.choice(headers)
    values = [*NAMES, "a", "b", "1", "-1", "train", "1.5", '"', "'", "=1+1", "nan", "x" * 2000]
    joint = random.choice([",", ";", "\t"])
    rows = [joint.join(random.choice(values) for _ in range(header.count(",") + 1)) for _ in range(random.randrange(6))]
    data = random.choice(["\n", "\r\n", "\r"]).join([header, *rows]).encode()
    return data if random.random() < 0.8 else harmed(random, data)


def arrays(random: random.Random, folder: Path, small: Small) -> Invocation:
    """Distributions that are one file of arrays: MedMNIST's NPZ, figshare's HDF5."""
    if random.random() < 0.5:
        path = folder / "breastmnist.npz"
        path.write_bytes(_npz(random))
        return Invocation(["data", "add", "medmnist:breastmnist", str(path)], env=own_home(folder))
    root = folder / "mat"
    root.mkdir()
    for number in range(1, 4):
        _mat(random, root / f"{number}.mat")
    return Invocation(["data", "add", "figshare-brain", str(root)], env=own_home(folder))


def _npz(random: random.Random) -> bytes:
    import zipfile

    odd_arrays: list[Callable[[], bytes]] = [
        lambda: npy(np.zeros((3, 28, 28), np.uint8)),
        lambda: npy(np.zeros((3, 1), np.uint8)),
        lambda: npy(np.array([{}], object)),
        lambda: npy(np.zeros((3, 28, 28), np.float32)),
        lambda: npy(np.zeros((0, 28, 28), np.uint8)),
        lambda: b"",
        lambda: npy(np.full((3, 1), 9, np.uint8)),
        lambda: npy(np.full((3, 1), -1, np.int64)),
        lambda: npy(np.array(3)),
    ]
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", random.choice([zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])) as archive:
        for part in ("train", "val", "test"):
            for name, usual in (("images", odd_arrays[0]), ("labels", odd_arrays[1])):
                member = usual() if random.random() < 0.8 else random.choice(odd_arrays)()
                member = member if random.random() < 0.9 else harmed(random, member)
                if random.random() < 0.97:
                    archive.writestr(f"{part}_{name}.npy", member)
    return stream.getvalue() if random.random() < 0.8 else harmed(random, stream.getvalue())


def _mat(random: random.Random, path: Path) -> None:
    import h5py

    values = {
        "PID": random.choice(
            [np.array([[49], [50]]), np.array([[2**40]]), np.array([[-1]]), np.array([[0.5]]), np.zeros((0,))]
        ),
        "label": random.choice(
            [np.array([[1]]), np.array([[9]]), np.array([[-3]]), np.zeros((2, 2)), np.array([[np.nan]])]
        ),
        "image": random.choice(
            [np.zeros((16, 16), np.int16), np.zeros((0, 4)), np.zeros((3,)), np.array(b"a"), np.zeros((4, 4, 4))]
        ),
    }
    with h5py.File(path, "w") as file:
        group = file.create_group(random.choice(["cjdata", "cjdata", "cjdata", "other"]))
        for name, value in values.items():
            if random.random() < 0.95:
                group[name] = value
    if random.random() < 0.3:
        path.write_bytes(harmed(random, path.read_bytes()))
