"""The two brain collections that Kaggle distributes: Br35H and the 4-class one."""

from __future__ import annotations

from pathlib import Path

from bench.core.config import Protocol
from bench.core.errors import UserError
from bench.data.images.files import picture_files
from bench.data.sources.folder import folder_rows, folders
from bench.data.sources.rows import Row, assemble
from bench.data.spec import DatasetSpec
from bench.data.table import Table

BR35H, KAGGLE = "br35h", "brain-kaggle"
BR35H_COMPLETE = 3000
# The two versions that circulate, by their number of training images.
KAGGLE_COMPLETE = {5712: 7023, 2870: 3264}
_STEMS = {"glioma": "glioma", "meningioma": "meningioma", "no": "notumor", "pituitary": "pituitary"}


def read_br35h(path: Path, protocol: Protocol) -> Table:  # noqa: ARG001 - a reader's signature
    """Read the folders `yes` and `no`; `pred` and the mask-RCNN copy beside them are left alone.

    Raises:
        UserError: when the two folders are not below the path.
    """
    parent = _parent_of(path, {"yes", "no"})
    if parent is None:
        raise UserError(f"dataset {BR35H!r}: no folder below {path} holds both `yes` and `no`")
    rows = [
        Row(file.relative_to(path).as_posix(), file, label)
        for label in ("no", "yes")
        for folder in folders(parent)
        if folder.name.lower() == label
        for file in picture_files(folder)
    ]
    notes = ["no patient ids are published: images that the audit finds equal are one group"]
    if len(rows) < BR35H_COMPLETE:
        notes.append(f"incomplete: {len(rows)} of {BR35H_COMPLETE} images are here")
    return assemble(
        BR35H, rows, path, classes=("no", "yes"), kind="brain", expected=BR35H_COMPLETE, notes=notes, paper_name="Br35H"
    )


def _parent_of(path: Path, wanted: set[str], depth: int = 4) -> Path | None:
    """The nearest folder below a path that holds all wanted folders."""
    level = [path] if path.is_dir() else []
    for _ in range(depth):
        for folder in level:
            if wanted <= {inner.name.lower() for inner in folders(folder)}:
                return folder
        level = [inner for folder in level for inner in folders(folder)]
    return None


def read_kaggle(path: Path, protocol: Protocol) -> Table:  # noqa: ARG001 - a reader's signature
    """Read `Training` and `Testing`, each with folders `glioma*`, `meningioma*`, `no*` and `pituitary*`.

    Raises:
        UserError: when they are not below the path, or a class folder has another name.
    """
    parent = _parent_of(path, {"training", "testing"})
    if parent is None:
        raise UserError(f"dataset {KAGGLE!r}: no folder below {path} holds both `Training` and `Testing`")
    rows = folder_rows(KAGGLE, parent, _class_of)
    training = sum(row.official == "train" for row in rows)
    nearest = min(KAGGLE_COMPLETE, key=lambda count: abs(count - training))
    expected = KAGGLE_COMPLETE[nearest]
    notes = ["no patient ids are published, and the set mixes others: audit it before trusting a result"]
    if len(rows) < expected:
        notes.append(f"incomplete: {len(rows)} of {expected} images are here")
    classes = tuple(_STEMS.values())
    return assemble(
        KAGGLE, rows, path, classes=classes, kind="brain", expected=expected, notes=notes, paper_name="Brain"
    )


def _class_of(folder: str) -> str:
    stem = folder.lower().replace("-", "_").split("_")[0].removesuffix("tumor").removesuffix("tumour")
    if stem not in _STEMS:
        raise UserError(f"dataset {KAGGLE!r}: the folder {folder!r} is none of glioma*, meningioma*, no*, pituitary*")
    return _STEMS[stem]


BR35H_SPEC = DatasetSpec(
    BR35H,
    title="Br35H :: Brain Tumor Detection 2020",
    summary="3000 slices: tumour or none",
    reader=read_br35h,
    paper_name="Br35H",
    licence="terms unclear (Kaggle: unknown); evaluation only",
    citation="A. Hamada, Br35H :: Brain Tumor Detection 2020, Kaggle, 2020",
    address="https://www.kaggle.com/datasets/ahmedhamada0/brain-tumor-detection",
    hint=f"download it at https://www.kaggle.com/datasets/ahmedhamada0/brain-tumor-detection (an account is needed), "
    f"unpack it, then `bench data add {BR35H} FOLDER`",
    kind="brain",
    reading="row 8: at least 602 test images, about a fifth",
    groups="none published; images found equal",
)
KAGGLE_SPEC = DatasetSpec(
    KAGGLE,
    title="Brain Tumor MRI, 4 classes (Kaggle)",
    summary="7023 slices: glioma, meningioma, pituitary or no tumour",
    reader=read_kaggle,
    paper_name="Brain",
    licence="CC0 stated on Kaggle; its parts carry their own terms",
    citation="M. Nickparvar, Brain Tumor MRI Dataset, Kaggle, 2021; the older S. Bhuvaji et al., Brain Tumor "
    "Classification (MRI), Kaggle, 2020",
    address="https://www.kaggle.com/datasets/masoudnickparvar/brain-tumor-mri-dataset",
    hint=f"download it at https://www.kaggle.com/datasets/masoudnickparvar/brain-tumor-mri-dataset (an account is "
    f"needed), unpack it, then `bench data add {KAGGLE} FOLDER`",
    kind="brain",
    reading="row 9: most likely the paper's Brain (k = 4); its own Training and Testing are the official split",
    groups="none published; images found equal",
)
