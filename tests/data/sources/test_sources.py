from __future__ import annotations

import csv
from collections import Counter
from pathlib import Path

import h5py
import numpy as np
import pytest

from bench.core.config import Protocol
from bench.core.errors import UserError
from bench.data.registry import DATASETS, add, load
from bench.data.sources import figshare
from bench.data.sources.isic import balanced, site_of
from bench.data.splits import expand, split

ANY = Protocol()


def read(name: str, path: Path):
    return DATASETS.get(name).reader(path, ANY)


def write_mat(path: Path, patient: str, label: int, image: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(path, "w") as file:
        group = file.create_group("cjdata")
        group["PID"] = np.array([[ord(letter)] for letter in patient], dtype=np.uint16)
        group["image"] = image.T.astype(np.int16)
        group["label"] = np.array([[float(label)]])


@pytest.fixture
def mats(tmp_path: Path) -> Path:
    for number in range(1, 7):
        image = np.zeros((12, 10))
        image[:6] = np.arange(60).reshape(6, 10) * number
        write_mat(tmp_path / "part" / f"{number}.mat", f"P{(number + 1) // 2}", (number - 1) // 2 + 1, image)
    with h5py.File(tmp_path / "cvind.mat", "w") as file:
        file["cvind"] = np.array([[1.0, 1, 2, 2, 3, 3]])
    return tmp_path


def test_figshare_mat_files_carry_patient_label_fold_and_a_transposed_image(mats: Path):
    table = read("figshare-brain", mats)
    assert table.ids.tolist() == ["0001", "0002", "0003", "0004", "0005", "0006"]
    assert [table.classes[label] for label in table.labels] == ["meningioma"] * 2 + ["glioma"] * 2 + ["pituitary"] * 2
    assert table.groups.tolist() == ["P1", "P1", "P2", "P2", "P3", "P3"]
    assert table.official.tolist() == ["1", "1", "2", "2", "3", "3"]
    assert table.expected == 3064
    image = table.images.read(0)
    assert image.shape == (12, 10)
    assert image[6:].max() == 0
    assert image[5, 9] == 255


def test_a_slice_is_scaled_from_its_first_to_its_99th_percentile():
    image = np.arange(101.0).reshape(1, 101) * 7
    scaled = figshare.scaled(image)
    assert scaled[0, [0, 1, 50, 99, 100]].tolist() == [0, 0, 128, 255, 255]
    assert figshare.scaled(np.full((3, 3), 9)).max() == 0


def test_a_damaged_mat_is_skipped_and_too_many_are_refused(mats: Path):
    (mats / "part" / "3.mat").write_bytes(b"no hdf5")
    table = read("figshare-brain", mats)
    assert len(table) == 5
    assert any("1 unusable files skipped" in note for note in table.notes)
    (mats / "part" / "4.mat").write_bytes(b"")
    with pytest.raises(UserError, match="2 of 6 files cannot be used"):
        read("figshare-brain", mats)


def test_without_the_folds_there_is_no_official_split(mats: Path):
    (mats / "cvind.mat").unlink()
    table = read("figshare-brain", mats)
    assert any("no official folds" in note for note in table.notes)
    with pytest.raises(UserError, match="no official split"):
        expand(table, "official")


def test_archives_that_are_still_packed_are_said_so(tmp_path: Path):
    (tmp_path / "brainTumorDataPublic_1-766.zip").write_bytes(b"")
    with pytest.raises(UserError, match="1 zip archives; unpack them there"):
        read("figshare-brain", tmp_path)


def test_the_jpeg_copy_takes_folds_as_groups(tmp_path: Path, draw):
    rows = [(f"images/{number}.jpg", figshare.CLASSES[number % 3], number % 5 + 1) for number in range(15)]
    for name, _, fold in rows:
        draw(tmp_path / name, fold * 100 + int(Path(name).stem), gray=True)
    with (tmp_path / "index.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("image", "label", "fold"), *rows])
    table = read("figshare-brain", tmp_path)
    assert set(table.groups.tolist()) == {f"fold-{fold}" for fold in range(1, 6)}
    assert expand(table, "official") == [f"official:{fold}" for fold in range(1, 6)]


@pytest.mark.parametrize("inside", ["", "archive/brain_tumor_dataset"])
def test_br35h_reads_yes_and_no_and_leaves_the_rest_alone(tmp_path: Path, draw, inside: str):
    for number in range(4):
        draw(tmp_path / inside / "yes" / f"y{number}.jpg", number)
        draw(tmp_path / inside / "no" / f"no {number}.jpg", 10 + number)
        draw(tmp_path / inside / "pred" / f"pred{number}.jpg", 20 + number)
        draw(tmp_path / inside / "Br35H-Mask-RCNN" / "TRAIN" / f"y{number}.jpg", number)
    table = read("br35h", tmp_path)
    assert table.counts() == {"no": 4, "yes": 4}
    assert table.expected == 3000
    assert "incomplete: 8 of 3000 images are here" in table.notes


@pytest.mark.parametrize(
    "names",
    [
        ("glioma", "meningioma", "notumor", "pituitary"),
        ("glioma_tumor", "meningioma_tumor", "no_tumor", "pituitary_tumor"),
    ],
)
def test_brain_kaggle_knows_both_ways_of_naming_folders(tmp_path: Path, draw, names):
    for part in ("Training", "Testing"):
        for number, name in enumerate(names):
            draw(tmp_path / "unzipped" / part / name / f"{number}.jpg", number + 10 * (part == "Testing"))
    table = read("brain-kaggle", tmp_path)
    assert table.classes == ("glioma", "meningioma", "notumor", "pituitary")
    assert Counter(table.official.tolist()) == {"train": 4, "test": 4}
    assert table.paper_name == "Brain"


def test_brain_kaggle_refuses_other_folders(tmp_path: Path, draw):
    draw(tmp_path / "Training" / "stroke" / "1.jpg", 1)
    draw(tmp_path / "Testing" / "glioma" / "1.jpg", 2)
    with pytest.raises(UserError, match="'stroke' is none of glioma"):
        read("brain-kaggle", tmp_path)


@pytest.fixture
def ham(tmp_path: Path, draw) -> Path:
    # Lesion, diagnosis, source; two melanoma lesions of three images, ten nevi of one or two.
    rows = [(f"L{lesion}", "mel", "rosendahl") for lesion in range(2) for _ in range(3)]
    rows += [(f"N{lesion}", "nv", "vidir_modern") for lesion in range(10) for _ in range(1 + lesion % 2)]
    with (tmp_path / "HAM10000_metadata").open("w", newline="") as file:
        writer = csv.writer(file, delimiter="\t")
        writer.writerow(("lesion_id", "image_id", "dx", "dx_type", "age", "sex", "localization", "dataset"))
        for number, (lesion, diagnosis, source) in enumerate(rows):
            writer.writerow((lesion, f"ISIC_{number:07d}", diagnosis, "histo", 50, "male", "back", source))
            draw(tmp_path / f"HAM10000_images_part_{1 + number % 2}" / f"ISIC_{number:07d}.jpg", number)
    return tmp_path


def test_ham10000_from_metadata_without_extension_and_two_part_folders(ham: Path):
    table = read("ham10000", ham)
    assert table.classes == ("akiec", "bcc", "bkl", "df", "mel", "nv", "vasc")
    assert (len(table), table.expected) == (21, 10015)
    assert len(set(table.groups.tolist())) == 12
    assert set(table.sites.tolist()) == {"rosendahl", "vidir_modern"}


def test_ham10000_as_melanoma_or_not(ham: Path):
    assert read("ham10000-mel", ham).counts() == {"benign": 15, "melanoma": 6}


def test_the_balanced_set_draws_whole_benign_lesions_to_the_number_of_melanomas(ham: Path):
    table = read("ham10000-mel-balanced", ham)
    assert table.counts() == {"benign": 6, "melanoma": 6}
    assert table.fingerprint() == read("ham10000-mel-balanced", ham).fingerprint()
    whole = read("ham10000-mel", ham)
    benign = table.groups[table.labels == 0]
    assert all((benign == lesion).sum() == (whole.groups == lesion).sum() for lesion in set(benign.tolist()))


def test_balancing_does_not_depend_on_row_order(ham: Path):
    from bench.data.sources.isic import _as_melanoma, _ham_rows

    rows = _as_melanoma(_ham_rows("x", ham))
    assert {row.id for row in balanced(rows)} == {row.id for row in balanced(rows[::-1])}


def test_ham10000_with_melanomas_repeated_before_the_split(ham: Path):
    table = read("ham10000-mel-oversampled", ham)
    assert table.counts() == {"benign": 15, "melanoma": 15}
    copies = [name for name in table.ids.tolist() if "#" in name]
    assert len(copies) == 9
    assert len({name.split("#")[0] for name in copies}) == 6
    whole = read("ham10000-mel", ham)
    group = dict(zip(whole.ids.tolist(), whole.groups.tolist(), strict=True))
    assert all(group[name.split("#")[0]] == mine for name, mine in zip(table.ids, table.groups, strict=True))
    assert DATASETS.get("ham10000-mel-oversampled").caution
    assert "ham10000-mel-oversampled" not in DATASETS.match("all")
    assert "ham10000-mel-oversampled" in DATASETS.match("ham10000*")


def test_one_download_of_ham10000_serves_its_three_readings(ham: Path):
    add("ham10000", ham)
    assert load("ham10000-mel-balanced", ANY).counts() == {"benign": 6, "melanoma": 6}


def test_ham10000_without_its_table_or_with_an_unknown_diagnosis_is_refused(ham: Path):
    text = (ham / "HAM10000_metadata").read_text()
    (ham / "HAM10000_metadata").write_text(text.replace("\tmel\t", "\twart\t", 1))
    with pytest.raises(UserError, match="unknown diagnosis 'wart'"):
        read("ham10000", ham)
    (ham / "HAM10000_metadata").unlink()
    with pytest.raises(UserError, match=r"there is no HAM10000_metadata.csv below"):
        read("ham10000", ham)


def one_hot(path: Path, classes: tuple[str, ...], rows: list[tuple[str, str]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(("image", *classes))
        writer.writerows((image, *("1.0" if label == name else "0.0" for name in classes)) for image, label in rows)


def test_isic2018_has_three_official_parts_and_lesions_in_training(tmp_path: Path, draw):
    classes = ("MEL", "NV", "BCC", "AKIEC", "BKL", "DF", "VASC")
    number = 0
    for part, count in (("Training", 14), ("Validation", 7), ("Test", 7)):
        rows = []
        for row in range(count):
            name = f"ISIC_{number:07d}"
            draw(tmp_path / f"ISIC2018_Task3_{part}_Input" / f"{name}.jpg", number)
            rows.append((name, classes[row % 7]))
            number += 1
        stem = f"ISIC2018_Task3_{part}_GroundTruth"
        one_hot(tmp_path / stem / f"{stem}.csv", classes, rows)
    groupings = "image,lesion_id,diagnosis_confirm_type\n"
    groupings += "".join(f"ISIC_{row:07d},HAM_{row // 2:07d},histo\n" for row in range(14))
    (tmp_path / "ISIC2018_Task3_Training_LesionGroupings.csv").write_text(groupings)
    table = read("isic2018", tmp_path)
    assert Counter(table.official.tolist()) == {"train": 14, "val": 7, "test": 7}
    assert len(set(table.groups.tolist())) == 7 + 14
    made = split(table, "official", 0)
    assert [len(rows) for rows in made.parts().values()] == [14, 7, 7]


def test_isic2019_infers_sites_and_keeps_unk_out_unless_it_occurs(tmp_path: Path, draw):
    classes = ("MEL", "NV", "BCC", "AK", "BKL", "DF", "VASC", "SCC", "UNK")
    rows = [
        ("ISIC_0000001", "NV"),
        ("ISIC_0024306", "MEL"),
        ("ISIC_0053454", "SCC"),
        ("ISIC_0012653_downsampled", "BKL"),
    ]
    one_hot(tmp_path / "ISIC_2019_Training_GroundTruth.csv", classes, rows)
    lesions = ["", "HAM_0000550", "BCN_0000001", "MSK4_0000001"]
    text = "image,age_approx,anatom_site_general,lesion_id,sex\n"
    text += "".join(f"{image},50,torso,{lesion},male\n" for (image, _), lesion in zip(rows, lesions, strict=True))
    (tmp_path / "ISIC_2019_Training_Metadata.csv").write_text(text)
    for number, (image, _) in enumerate(rows):
        draw(tmp_path / "ISIC_2019_Training_Input" / f"{image}.jpg", number)
    table = read("isic2019", tmp_path)
    found = dict(zip(table.ids.tolist(), table.sites.tolist(), strict=True))
    assert [found[image] for image, _ in rows] == ["", "HAM", "BCN", "MSK"]
    assert "UNK" not in table.classes
    (tmp_path / "HAM10000_metadata.csv").write_text(
        "image_id,lesion_id,dx,dataset\nISIC_0024306,HAM_0000550,mel,rosendahl\n"
    )
    assert "HAM_rosendahl" in read("isic2019", tmp_path).sites
    one_hot(tmp_path / "ISIC_2019_Training_GroundTruth.csv", classes, [*rows[:3], (rows[3][0], "UNK")])
    assert read("isic2019", tmp_path).classes[-1] == "UNK"


def test_a_ground_truth_row_with_two_classes_is_refused(tmp_path: Path, draw):
    (tmp_path / "ISIC_2019_Training_Metadata.csv").write_text("image,lesion_id\nISIC_1,\n")
    header = "image,MEL,NV,BCC,AK,BKL,DF,VASC,SCC,UNK\n"
    (tmp_path / "ISIC_2019_Training_GroundTruth.csv").write_text(header + "ISIC_1,1,1,0,0,0,0,0,0,0\n")
    draw(tmp_path / "ISIC_1.jpg", 1)
    with pytest.raises(UserError, match="'ISIC_1' has 2 classes"):
        read("isic2019", tmp_path)


def test_the_rule_of_sites():
    assert site_of("") == ""
    assert site_of("BCN_0003691") == "BCN"
    assert site_of("HAM_0000118", "vidir_molemax") == "HAM_vidir_molemax"


# The real files, where they are.


def test_the_real_mat_files(shared_data: Path):
    table = read("figshare-brain", shared_data / "figshare-brain-mat")
    assert table.counts() == {"meningioma": 8, "glioma": 8, "pituitary": 8}
    assert table.images.read(0).shape == (512, 512)
    assert "incomplete: 24 of 3064 slices are here" in table.notes
    index = {row["image"]: row for row in csv.DictReader((shared_data / "figshare-brain" / "index.csv").open())}
    for number, label, fold in zip(table.ids, table.labels, table.official, strict=True):
        row = index[f"images/{int(number)}.jpg"]
        assert (row["label"], row["fold"]) == (table.classes[label], fold)


def test_a_real_slice_is_the_picture_of_the_jpeg_copy(shared_data: Path):
    from bench.data.images.cache import resized

    original = read("figshare-brain", shared_data / "figshare-brain-mat")
    copy = read("figshare-brain", shared_data / "figshare-brain")
    row = copy.ids.tolist().index(f"images/{int(original.ids[0])}.jpg")
    left, right = (resized(image, 64)[..., 0].ravel() for image in (original.images.read(0), copy.images.read(row)))
    assert np.corrcoef(left, right)[0, 1] > 0.98


@pytest.mark.slow
def test_the_real_jpeg_copy(shared_data: Path):
    table = read("figshare-brain", shared_data / "figshare-brain")
    assert table.counts() == {"meningioma": 708, "glioma": 1426, "pituitary": 930}
    assert [(table.official == str(fold)).sum() for fold in range(1, 6)] == [570, 655, 562, 613, 664]


@pytest.mark.slow
def test_the_real_ham10000(shared_data: Path):
    table = read("ham10000", shared_data / "ham10000")
    assert table.counts() == {"akiec": 327, "bcc": 514, "bkl": 1099, "df": 115, "mel": 1113, "nv": 6705, "vasc": 142}
    assert len(set(table.groups.tolist())) == 7470
    assert table.complete
    assert read("ham10000-mel-balanced", shared_data / "ham10000").counts() == {"benign": 1113, "melanoma": 1113}


@pytest.mark.slow
def test_the_real_isic2019_tables_with_ham10000s_images_are_an_incomplete_download(shared_data: Path, tmp_path: Path):
    for source in ("isic2019/ISIC_2019_Training_GroundTruth.csv", "isic2019/ISIC_2019_Training_Metadata.csv"):
        (tmp_path / Path(source).name).symlink_to(shared_data / source)
    (tmp_path / "ISIC_2019_Training_Input").symlink_to(shared_data / "ham10000" / "HAM10000_images")
    table = read("isic2019", tmp_path)
    assert (len(table), table.expected) == (10015, 25331)
    assert any("incomplete: 10015 of 25331 images are here" in note for note in table.notes)
    assert table.counts() == {
        "MEL": 1113, "NV": 6705, "BCC": 514, "AK": 130, "BKL": 1099, "DF": 115, "VASC": 142, "SCC": 197,
    }  # fmt: skip
    assert len(set(table.groups.tolist())) == 7470
    assert set(table.sites.tolist()) == {"HAM"}
    assert any("2084 images without a lesion id" in note for note in table.notes)


@pytest.mark.slow
def test_the_real_kaggle_collections(shared_data: Path):
    table = read("brain-kaggle", shared_data / "brain-kaggle")
    assert (len(table), table.expected) == (7019, 7023)
    assert Counter(table.official.tolist()) == {"train": 5708, "test": 1311}
    sums, counts = np.unique(table.checksums, return_counts=True)
    equal = set(sums[counts > 1].tolist())
    assert len(equal) == 300
    parts = {name: set(table.checksums[table.official == name].tolist()) for name in ("train", "test")}
    assert len(equal & parts["train"] & parts["test"]) == 189
    assert read("br35h", shared_data / "br35h").counts() == {"no": 1500, "yes": 1500}
