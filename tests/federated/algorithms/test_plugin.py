"""The algorithm of CONTRIBUTING.md, as a plugin's file brings it."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from bench.core.cellspec import CellSpec
from bench.core.config import Federation, load_protocol
from bench.core.errors import UserError
from bench.core.plugins import PLUGINS, load_plugin
from bench.harness.regimes import REGIMES
from federated.algorithms.registry import ALGORITHMS, algorithm_of
from federated.simulation.cell import Simulation
from federated.simulation.fit import fit
from federated.transport.packing import pack
from models.recipes.context import FitContext

Make = Callable[..., FitContext]
NAME = "fedavg-step"
TEXT = (Path(__file__).parents[3] / "CONTRIBUTING.md").read_text()


@pytest.fixture(autouse=True)
def plugin(tmp_path: Path) -> Iterator[Path]:
    """The example's file, loaded; what it registered goes again."""
    (code,) = re.findall(r"```python\n# example: algorithm\n(.*?)```", TEXT, re.DOTALL)
    path = tmp_path / "step.py"
    path.write_text(code)
    assert len(code.splitlines()) < 60
    load_plugin(path)
    yield path
    PLUGINS.pop(str(path.resolve()))
    ALGORITHMS._items.pop(NAME)
    REGIMES._items.pop(NAME, None)


def weights_after(context: FitContext) -> np.ndarray:
    fit(context)
    return pack(list(context.module.parameters()))


def test_its_name_is_a_regime() -> None:
    assert NAME in REGIMES.names()
    assert REGIMES.get(NAME).summary == "FedAvg with a step of the server's own"


def test_it_trains_by_its_own_rule(make_context: Make) -> None:
    """After one round half a step lies halfway between the start and FedAvg's model."""
    start = pack(Simulation.of(make_context("fedavg")).packing.trainable)
    whole = weights_after(make_context("fedavg", rounds=1))
    half = weights_after(make_context(NAME, rounds=1, options={NAME: {"length": 0.5}}))
    np.testing.assert_allclose(half, (start + whole) / 2, atol=1e-6)
    assert not np.allclose(half, whole, atol=1e-4)
    np.testing.assert_array_equal(weights_after(make_context(NAME, rounds=1)), whole)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({NAME: {"lenght": 0.5}}, r"no setting federated.options.fedavg-step.lenght; did you mean length"),
        ({NAME: {"length": 3}}, r"federated.options.fedavg-step.length = 3 will not do: .*less than or equal to 2"),
        ({"fedavg-stop": {"length": 1}}, "no federated algorithm is called 'fedavg-stop'; did you mean fedavg-step"),
    ],
)
def test_its_settings_have_bounds_and_near_matches(options: dict[str, dict[str, float]], message: str) -> None:
    with pytest.raises(UserError, match=message):
        algorithm_of(NAME, Federation(options=options))


def test_its_settings_count_for_its_own_cells_alone() -> None:
    plain = load_protocol("demo")
    given = load_protocol("demo", [f"federated.options.{NAME}.length=0.5"])

    def key(regime: str, protocol: object) -> str:
        return CellSpec("m", "d", "grouped", regime, protocol, 0).key({}, "", "")  # type: ignore[arg-type]

    assert key(NAME, given) != key(NAME, plain)
    assert key("fedavg", given) == key("fedavg", plain)
    assert key("centralized", given) == key("centralized", plain)
