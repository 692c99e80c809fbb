"""docs/literature.md says what is so: costs, lengths, and that a further system is one file."""

from __future__ import annotations

import re
from pathlib import Path
from runpy import run_path
from types import SimpleNamespace

import pytest

from models import literature as folder
from models.literature.catalogue import SYSTEMS, systems
from models.registry import MODELS

ROOT = Path(__file__).parents[3]
literature = SimpleNamespace(**run_path(str(ROOT / "benchmarks" / "literature_costs.py")))
PAGE = (ROOT / "docs" / "literature.md").read_text(encoding="utf-8")
NEW = """
from models.literature.system import Publication, System

_PUBLICATION = Publication("[99]", "A. Author", (), "its name", "everything", "largely chosen here")
SYSTEMS = (System("author-resnet18", "ResNet-18", _PUBLICATION, "resnet18"),)
"""


@pytest.mark.long
def test_the_page_has_the_table_that_is_counted() -> None:
    pytest.importorskip("timm")
    assert "\n".join(literature.lines()) in PAGE, "print it anew by `python benchmarks/literature_costs.py`"


@pytest.mark.parametrize("name", ["anaraki-gacnn", "btc-fcnn", "bmri-net", "alshayeji-cnn"])
def test_the_page_has_the_lines_of_the_small_ones(name: str) -> None:
    (system,) = (system for system in SYSTEMS if system.name == name)
    assert f"\n{literature.line(system)}\n" in PAGE


def test_differences_are_explained_to_the_last_parameter() -> None:
    """What the page says of a network, and of its difference, adds up to what it says of ours."""
    checked = 0
    for line in PAGE.splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if len(cells) != 7 or not cells[0].startswith("`") or not re.match(r"[\d,]+;", cells[4]):
            continue
        ours, theirs = (int(text.split(";")[0].replace(",", "")) for text in (cells[2], cells[4]))
        steps = [int(step.replace("−", "-").replace(",", "")) for step in re.findall(r"[+−][\d,]+", cells[5])]
        assert theirs + sum(steps) == ours, line
        checked += 1
    known = [system for system in SYSTEMS if literature.as_published(system)]
    assert checked == len(known) >= 11


def test_parameters_are_the_networks() -> None:
    from models.backbones.probe import build_without_memory

    for name in ("swati-vgg19", "pfpm-resnet50", "btc-fcnn", "bmri-net", "alshayeji-cnn", "deepak-googlenet"):
        network = build_without_memory(lambda name=name: MODELS.get(name).build(literature.CLASSES))
        count = sum(parameter.numel() for parameter in network.parameters())
        assert re.search(rf"\| `{name}` \[\d+\] \| [\d–]+ \| {count:,} \|", PAGE), name


def test_macs_of_ours_come_near_the_printed_ones() -> None:
    for line in PAGE.splitlines():
        found = re.match(r"\| `[^|]+\| [^|]+\| [^|]+\| ([\d,.]+) \| [\d,]+; ([\d,]+) \|", line)
        if found:
            ours, theirs = (float(text.replace(",", "")) for text in found.groups())
            assert ours == pytest.approx(theirs, rel=0.006), line


def test_a_further_system_is_one_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "author.py").write_text(NEW)
    monkeypatch.setattr(folder, "__path__", [*folder.__path__, str(tmp_path)])
    assert [system.name for system in systems()] == [*(system.name for system in SYSTEMS), "author-resnet18"]


def test_the_page_states_the_lengths_of_the_smallest_files() -> None:
    lengths = {
        file.name: len(file.read_text(encoding="utf-8").splitlines())
        for file in (ROOT / "models" / "literature").glob("*.py")
        if "SYSTEMS = (" in file.read_text(encoding="utf-8")
    }
    own = {name: lines for name, lines in lengths.items() if "Own(" in (ROOT / "models/literature" / name).read_text()}
    smallest, with_network = min(lengths, key=lengths.__getitem__), min(own, key=own.__getitem__)
    assert f"`{smallest}`, describes three systems in {lengths[smallest]} lines" in PAGE
    assert re.search(rf"`{with_network}`, has\s+{own[with_network]}\b", PAGE)
