"""Three Ray machines on loopback with caches of their own: one is killed, and the results are as if it never was."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from bench.core.config import Runtime
from bench.core.errors import UserError
from bench.data import registry as datasets
from bench.executors.run import execute
from bench.store.run import Run

pytest.importorskip("ray", reason="needs the ray extra")
pytestmark = [pytest.mark.ray, pytest.mark.slow]


@pytest.fixture
def machines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A cluster of the driver's machine and two workers, which see nothing of the driver's datasets and caches."""
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    import ray
    from ray.cluster_utils import Cluster

    def own(name: str) -> dict[str, str]:
        return {f"BENCH_{what}": str(tmp_path / name / what.lower()) for what in ("HOME", "CACHE")}

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "env_vars": own("head")})
    try:
        cluster.workers = [cluster.add_node(num_cpus=1, env_vars=own(f"worker{number}")) for number in range(2)]
        cluster.wait_for_nodes()
        yield cluster
    finally:
        ray.shutdown()
        cluster.shutdown()


@pytest.fixture
def few_images(tmp_path: Path) -> str:
    """A dataset that only the driver has."""
    draw = np.random.default_rng(0)
    for place, name in enumerate(("no", "yes")):
        (tmp_path / "files" / name).mkdir(parents=True)
        for number in range(30):
            pixels = draw.integers(0, 128, (20, 24, 3), dtype=np.uint8) + np.uint8(100 * place)
            Image.fromarray(pixels).save(tmp_path / "files" / name / f"{number}.png")
    datasets.add("here-alone", tmp_path / "files")
    return "here-alone"


def test_a_killed_machine_changes_nothing(
    machines: Any, few_images: str, grid: Callable[..., Any], alone: Any, contents: Any, heard: Any, tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    plan = grid(
        "linear@tiny,deepmedix@tiny",
        datasets=f"{few_images},phantom-brain",
        regimes="centralized,fedavg",
        # Long enough that a cell is still running when the word of its begin has come and its machine is killed.
        overrides=("tuning=full", "epochs=60", "early_stopping_patience=60"),
    )
    listener = heard()

    def kill(key: str, event: dict[str, Any]) -> None:
        # With three cells under way on machines of one core each, every machine has one.
        if len(machines.workers) == 2 and len(listener.begun) - len(listener.ended) == 3:
            machines.remove_node(machines.workers.pop(), allow_graceful=False)

    listener._on_event = kill
    runtime = Runtime(threads=1, executor="ray", address=machines.address)
    summary = execute(plan, Run.create(tmp_path / "run"), runtime, [listener])
    assert len(machines.workers) == 1, "no machine was killed: the cells were never three at once"
    assert listener.lost()
    assert capsys.readouterr().out == ""
    assert (summary.done, summary.failed) == (8, 0)
    assert contents(tmp_path / "run") == alone(plan)
    caches = [tmp_path / name / "cache" / "images" for name in ("head", "worker0", "worker1")]
    assert all(list(cache.glob("*/pixels*")) for cache in caches if cache.exists())


def test_what_cannot_run_on_a_cluster_is_said_before_the_first_cell(grid: Any, tmp_path: Path) -> None:
    import ray

    plan = grid("linear@tiny")
    run = Run.create(tmp_path / "run")
    with pytest.raises(UserError, match=r"no cluster at 127\.0\.0\.1:1 can be used .* `ray start --head`"):
        execute(plan, run, Runtime(executor="ray", address="127.0.0.1:1"), [])
    ray.init(num_cpus=1, include_dashboard=False, log_to_driver=False)
    try:
        with pytest.raises(UserError, match=r"asks for 64 CPU and 1\.2 GiB, and no machine of the"):
            execute(plan, run, Runtime(executor="ray", threads=64), [])
        with pytest.raises(UserError, match=r"asks for 1 CPU, 1 GPU and .* 0 GPU"):
            execute(plan, run, Runtime(executor="ray", device="cuda"), [])
        with pytest.raises(UserError, match="Ray itself deals out the GPUs; say --device cuda"):
            execute(plan, run, Runtime(executor="ray", device="cuda:1"), [])
        half = grid("linear@tiny", overrides=("precision=bf16",))
        with pytest.raises(UserError, match="the Ray cluster has none; use --set precision=32"):
            execute(half, run, Runtime(executor="ray"), [])
    finally:
        ray.shutdown()


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--executor", "ray", "--jobs", "2"], "--jobs is for --executor local"),
        (["--address", "head:6379"], "--address needs --executor ray"),
        (["--per-gpu", "2"], "--per-gpu needs --executor ray"),
        (["--executor", "slurm"], "--executor 'slurm': input should be 'local' or 'ray'"),
    ],
)
def test_options_that_do_not_go_together(options: list[str], sentence: str, tmp_path: Path) -> None:
    from bench.cli.app import app

    command = ["run", "--models", "linear@tiny", "--datasets", "phantom-brain", "--protocol", "demo", "--seeds", "1"]
    result = CliRunner().invoke(app, [*command, *options, "--out", str(tmp_path / "run")])
    assert isinstance(result.exception, UserError)
    assert sentence in str(result.exception)
    assert not (tmp_path / "run").exists()
