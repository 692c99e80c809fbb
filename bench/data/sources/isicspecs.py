"""Names, licences and addresses of the skin sets."""

from __future__ import annotations

from dataclasses import replace

from bench.data.sources.isic import (
    read_ham10000,
    read_ham10000_balanced,
    read_ham10000_mel,
    read_ham10000_oversampled,
    read_isic2017,
    read_isic2018,
    read_isic2019,
)
from bench.data.spec import DatasetSpec, Download, Reader

_HAM_LICENCE = "CC BY-NC 4.0"
_HAM_CITATION = (
    "P. Tschandl, C. Rosendahl, H. Kittler, The HAM10000 dataset, a large collection of multi-source dermatoscopic "
    "images of common pigmented skin lesions, Scientific Data 5, 180161, 2018"
)
_ISIC_CITATION = (
    "N. Codella et al., Skin lesion analysis toward melanoma detection 2018, arXiv:1902.03368; M. Combalia et al., "
    "BCN20000, arXiv:1908.02288; and HAM10000 (Tschandl et al. 2018)"
)
_DATAVERSE = "https://dataverse.harvard.edu/api/access/datafile"
_S3 = "https://isic-challenge-data.s3.amazonaws.com"
_HAM_DOWNLOADS = (
    Download(f"{_DATAVERSE}/3172585", "HAM10000_images_part_1.zip", unpack=True),
    Download(f"{_DATAVERSE}/3172584", "HAM10000_images_part_2.zip", unpack=True),
    Download(f"{_DATAVERSE}/3172582?format=original", "HAM10000_metadata.csv"),
)


def _ham(name: str, summary: str, reader: Reader, paper_name: str, reading: str) -> DatasetSpec:
    return DatasetSpec(
        name,
        title="HAM10000",
        summary=summary,
        reader=reader,
        paper_name=paper_name,
        licence=_HAM_LICENCE,
        citation=_HAM_CITATION,
        address="https://doi.org/10.7910/DVN/DBW86T",
        hint="`bench data fetch ham10000`, or `bench data add ham10000 FOLDER`",
        kind="skin",
        downloads=_HAM_DOWNLOADS if name == "ham10000" else (),
        reading=reading,
        groups="lesion (lesion_id)",
        same_files_as="" if name == "ham10000" else "ham10000",
    )


def _task3(part: str) -> tuple[Download, Download]:
    stem = f"{_S3}/2018/ISIC2018_Task3_{part}"
    return (
        Download(f"{stem}_Input.zip", f"ISIC2018_Task3_{part}_Input.zip", unpack=True),
        Download(f"{stem}_GroundTruth.zip", f"ISIC2018_Task3_{part}_GroundTruth.zip", unpack=True),
    )


_ISIC2017 = DatasetSpec(
    "isic2017",
    title="ISIC 2017, Task 3",
    summary="dermatoscopic images of 3 diagnoses with the lesions' outlines",
    reader=read_isic2017,
    licence="CC0 1.0",
    citation="N. Codella et al., Skin lesion analysis toward melanoma detection: a challenge at ISBI 2017, "
    "arXiv:1710.05006",
    address="https://challenge.isic-archive.com/data/#2017",
    hint="`bench data add isic2017 FOLDER` with an index.csv: image, label, part, lesion_id, age, sex, anatomy, mask",
    kind="skin",
    reading="in none of the paper's rows: another site than HAM10000, for external validation",
    groups="lesion where an id is known; an image without one is its own group",
)
_GROUPINGS = "ISIC2018_Task3_Training_LesionGroupings.csv"
_ISIC2018 = DatasetSpec(
    "isic2018",
    title="ISIC 2018, Task 3",
    summary="11720 dermatoscopic images of 7 diagnoses",
    reader=read_isic2018,
    paper_name="ISIC-2018",
    licence="CC BY-NC 4.0",
    citation=_ISIC_CITATION,
    address="https://challenge.isic-archive.com/data/#2018",
    hint="`bench data fetch isic2018`, or `bench data add isic2018 FOLDER`",
    kind="skin",
    downloads=(
        *_task3("Training"),
        *_task3("Validation"),
        *_task3("Test"),
        Download(f"{_S3}/2018/{_GROUPINGS}", _GROUPINGS),
    ),
    reading="row 11: named in the paper, in none of its rows; official test set",
    groups="lesion in the training part; none published for validation and test",
)
_ISIC2019 = DatasetSpec(
    "isic2019",
    title="ISIC 2019, training set",
    summary="25331 dermatoscopic images of 8 diagnoses from 3 archives",
    reader=read_isic2019,
    paper_name="ISIC-2019",
    licence="CC BY-NC 4.0",
    citation=_ISIC_CITATION,
    address="https://challenge.isic-archive.com/data/#2019",
    hint="`bench data fetch isic2019`, or `bench data add isic2019 FOLDER`",
    kind="skin",
    downloads=(
        Download(f"{_S3}/2019/ISIC_2019_Training_Input.zip", "ISIC_2019_Training_Input.zip", unpack=True),
        Download(f"{_S3}/2019/ISIC_2019_Training_GroundTruth.csv", "ISIC_2019_Training_GroundTruth.csv"),
        Download(f"{_S3}/2019/ISIC_2019_Training_Metadata.csv", "ISIC_2019_Training_Metadata.csv"),
    ),
    reading="row 8: stratified 70/10/20, lesions whole; row 12: its ROC-AUC is a hard one",
    groups="lesion (lesion_id); an image without one is its own group",
)
SPECS: tuple[DatasetSpec, ...] = (
    _ham("ham10000", "10015 dermatoscopic images of 7470 lesions, 7 diagnoses", read_ham10000, "", "row 10"),
    _ham("ham10000-mel", "10015 images: melanoma or not, natural prevalence", read_ham10000_mel, "", "row 10"),
    _ham(
        "ham10000-mel-balanced",
        "2226 images: melanoma or not, benign lesions drawn down to the melanomas",
        read_ham10000_balanced,
        "HAM10000",
        "row 10: the printed precision, recall and accuracy imply a prevalence of one half",
    ),
    replace(
        _ham(
            "ham10000-mel-oversampled",
            "17804 rows: melanoma or not, melanomas repeated to equal the benign images",
            read_ham10000_oversampled,
            "HAM10000",
            "row 10: the reading that the printed values do not exclude",
        ),
        caution="melanomas repeated before the split",
    ),
    _ISIC2017,
    _ISIC2018,
    _ISIC2019,
)
