"""The systems of the literature: what is said of them, and that each is a model that learns."""

from __future__ import annotations

import csv
import subprocess
import sys
from importlib.resources import files

import pytest
import torch
from torch.nn import functional as F

from bench.core.errors import UnknownName
from bench.harness.listing import model_card, models_table
from models.backbones.registry import BACKBONES
from models.inference.engines import folded
from models.literature.catalogue import SYSTEMS, compared_rows, publications
from models.registry import MODELS
from models.weights.initial import resolve
from reports.tables.paper import paper_tables
from reports.tables.published import rows


def test_every_printed_row_of_tables_2_and_3_has_its_models() -> None:
    printed = {(row.table, row.system) for row in rows() if row.table in (2, 3) and row.system != "DeepMediX"}
    assert {(found.table, found.row) for found in publications().values() if found.table} == printed


def test_the_listing_names_every_row_of_tables_1_to_4() -> None:
    listed = {(table, row["paper"]) for row in models_table() for table in row["tables"].split(", ") if table}
    assert {(str(row.table), row.system) for row in rows()} == listed


@pytest.mark.parametrize("table", [2, 3])
def test_a_tables_pattern_reaches_its_models_and_the_papers_own(table: int) -> None:
    own = [system for system in SYSTEMS if system.publication.table == table]
    expected = [system.name for system in own if not system.caution]
    assert MODELS.match(f"table:{table}") == ["deepmedix", *expected]


def test_a_table_that_is_none_is_refused() -> None:
    with pytest.raises(
        UnknownName, match=r"no model is printed in table '7' of the paper; there are table:1 to table:4"
    ):
        MODELS.match("deepmedix,table:7")


def test_what_is_said_of_the_systems_is_read_without_torch() -> None:
    code = "import sys, models.literature.catalogue; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize("system", SYSTEMS, ids=lambda system: system.name)
def test_a_card_says_what_is_known_and_what_was_chosen(system) -> None:
    publication = system.publication
    assert publication.known
    assert publication.chosen
    assert publication.citation
    assert publication.figures or publication.doubts or not publication.table
    assert all(50 < figure.accuracy < 100 and figure.protocol for figure in publication.figures)


def test_btc_fcnn_has_13_layers() -> None:
    kinds = [type(layer).__name__ for layer in MODELS.get("btc-fcnn").build(3).modules()]
    assert sum(kinds.count(kind) for kind in ("Conv2d", "AvgPool2d", "Linear")) == 13


def test_what_was_published_from_scratch_starts_from_random_weights() -> None:
    for name in ("btc-fcnn", "bmri-net", "alshayeji-cnn"):
        assert BACKBONES.get(name).from_scratch
        assert not resolve("imagenet", MODELS.get(name)).pretrained
    assert not BACKBONES.get("vgg19").from_scratch


@pytest.mark.slow
def test_the_long_skip_joins_the_stem_to_inception_v4s_own_map() -> None:
    pytest.importorskip("timm")
    torch.manual_seed(1)
    extractor = MODELS.get("emara-inception_v4").build(2).backbone.eval()
    images = torch.randn(1, 3, 96, 96)
    with torch.no_grad():
        joined = extractor(images)
        plain = extractor.model.forward_features(images)
        stem = extractor.model.features[:6](images)
    assert joined.shape[1] == 384 + 1536
    assert torch.equal(joined[:, 384:], plain)
    whole = folded(extractor)
    assert not any(isinstance(layer, torch.nn.BatchNorm2d) for layer in whole.modules())
    with torch.no_grad():
        assert (whole(images) - joined).norm() <= 1e-4 * joined.norm()
    torch.testing.assert_close(joined[:, :384].mean((2, 3)), F.adaptive_avg_pool2d(stem, plain.shape[2:]).mean((2, 3)))


@pytest.mark.parametrize("table", [2, 3])
def test_every_doubt_is_a_footnote_and_every_protocol_stands_beside_its_figure(table: int) -> None:
    drawn = next(grid for grid in paper_tables([]) if grid.label == f"paper-{table}")
    every = [system.publication for system in SYSTEMS]
    assert {one.reference for one in every if one.foot} == {"[37]", "[39]", "[41]"}
    for publication in [one for one in every if table in (one.table, one.foot)]:
        assert set(publication.doubts) <= set(drawn.notes)
        if publication.row:
            (line,) = (line for line in drawn.body if line[0].text == publication.row)
            assert f"{publication.figures[0].accuracy:.2f}" in line[2].text
            assert publication.figures[0].protocol in line[2].under


def test_every_system_has_a_table_for_its_doubts() -> None:
    assert all(system.publication.doubts for system in SYSTEMS)
    assert all(system.publication.table or system.publication.foot for system in SYSTEMS)


def test_bench_models_show_prints_the_card() -> None:
    card = model_card("btc-fcnn", 3)
    assert "98.63 on figshare" in card["published accuracy"]
    assert "13 layers" in card["known"]
    assert "the layers' sizes" in card["chosen here"]
    assert card["how sure"] == "by its description"


def test_the_reports_copy_of_the_cards_is_theirs() -> None:
    text = files("reports.tables").joinpath("systems.csv").read_text(encoding="utf-8")
    assert list(csv.DictReader(text.splitlines())) == compared_rows(), "write compared_rows() into systems.csv"
