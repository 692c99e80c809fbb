"""What a simulation's actors unpickle is what this process wrote for them, and nothing that lay in a folder."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from federated.simulation.ray import _shipped
from tests.fuzz.payloads import Outside, pickled


def test_a_file_that_this_run_did_not_write_is_not_unpickled(tmp_path: Path) -> None:
    outside = Outside.at(tmp_path / "outside")
    path = tmp_path / "ray.pickle"
    pickled(path, outside)
    written = hashlib.sha256(b"what the run wrote").hexdigest()
    with pytest.raises(ValueError, match="is not what the run wrote for its clients"):
        _shipped(str(path), written)
    outside.refuse_traces()
