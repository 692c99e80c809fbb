"""Federated regimes on real dermatoscopic images with a client a source.

    python benchmarks/federated_skin_sites.py DATA WEIGHTS OUT [--ham 3000] [further options of bench run]

DATA holds `ham10000/` and `isic2017/` as `bench data add` reads them; WEIGHTS are ImageNet's of MobileNetV2.
Sources are HAM10000, the MSK lesions of ISIC 2017, and its images without a lesion id, whose source no table names. The
three diagnoses that all have (melanoma, nevus, benign keratosis) are the classes. HAM10000 names its own four sources
in a column of its table; a copy without that column is one source here. Whole HAM10000 lesions are drawn, by the hash
of their ids, until `--ham` images are reached, so that one source does not hold nine images of ten.

Heads are tuned on stored feature maps at 96 px. Ends in `bench fed gaps` and `bench fed clients`, also as JSON in OUT.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

NAME = "skin-by-source"
CLASSES = {"mel": "MEL", "nv": "NV", "bkl": "BKL"}
REGIMES = (
    "twin,local-only,fedavg,fedavg-svrg,fedprox,fedavgm,fedadam,scaffold,fednova,feddyn,fedlc,moon,fedavg-cosine,fedexp,"
    "fedbn,fedper,fedrep,ditto,fedmedian"
)
SETTINGS = (
    *("image_size=96", "epochs=10", "early_stopping_patience=10", "tuning=head", "augmentation=none"),
    *("federated.partition=site", "federated.local_learning_rate=0.05", "bootstrap_resamples=200"),
)


def ham_rows(folder: Path, most: int) -> Iterator[dict[str, str]]:
    with (folder / "HAM10000_metadata.csv").open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["dx"] in CLASSES]
    pictures = {path.stem: path for path in folder.rglob("ISIC_*.jpg")}
    lesions: dict[str, list[dict[str, str]]] = {}
    for row in rows:
        lesions.setdefault(row["lesion_id"], []).append(row)
    taken = 0
    for lesion in sorted(lesions, key=lambda name: hashlib.sha256(name.encode()).digest()):
        for row in lesions[lesion] if taken < most else []:
            taken += 1
            source = row.get("dataset", "")
            yield {
                "image": str(pictures[row["image_id"]]),
                "label": CLASSES[row["dx"]],
                "lesion": lesion,
                "site": f"HAM10000 {source}".strip(),
            }


def isic_rows(folder: Path) -> Iterator[dict[str, str]]:
    with (folder / "index.csv").open(newline="") as file:
        for row in csv.DictReader(file):
            lesion = row["lesion_id"]
            site = lesion[:3] if lesion else "ISIC 2017, source unknown"
            picture = (folder / row["image"]).resolve()
            yield {"image": str(picture), "label": row["label"], "lesion": lesion or picture.stem, "site": site}


def write_index(data: Path, out: Path, most: int) -> Path:
    rows = [*ham_rows((data / "ham10000").resolve(), most), *isic_rows((data / "isic2017").resolve())]
    path = out / "index.csv"
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, ["image", "label", "lesion", "site"])
        writer.writeheader()
        writer.writerows(rows)
    return path


def bench(*arguments: str) -> str:
    return subprocess.run(
        [sys.executable, "-m", "bench", *arguments], check=True, text=True, capture_output=True
    ).stdout


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("weights")
    parser.add_argument("out", type=Path)
    parser.add_argument("--ham", type=int, default=3000)
    parser.add_argument("--models", default="linear@mobilenet_v2")
    parser.add_argument("--seeds", default="3")
    parser.add_argument("--regimes", default=REGIMES)
    arguments, further = parser.parse_known_args()
    out = arguments.out.resolve()
    out.mkdir(parents=True, exist_ok=True)
    index = write_index(arguments.data, out, arguments.ham)
    columns = ("--label", "label", "--group", "lesion", "--site", "site", "--kind", "skin", "--allow-outside")
    bench("data", "add", NAME, str(index), *columns)
    asked = [part for setting in SETTINGS for part in ("--set", setting)]
    run = out / "run"
    command = ["run", "--models", arguments.models, "--datasets", NAME, "--regimes", arguments.regimes]
    command += ["--seeds", arguments.seeds, "--weights", arguments.weights, "--protocol", "demo", "--out", str(run)]
    subprocess.run([sys.executable, "-m", "bench", *command, "--progress", "plain", *asked, *further], check=True)
    for name in ("gaps", "clients"):
        print(bench("fed", name, str(run)))
        (out / f"{name}.json").write_text(bench("fed", name, str(run), "--json"))


if __name__ == "__main__":
    main()
