"""A stranger's folder is data: nothing of it is executed, and nothing outside of it is read or written.

Every payload is put into every file that a run's folder may hold, and opened by the commands that open a run: in turn
here, each by each in the long test.
"""

from __future__ import annotations

import base64
import itertools
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bench.store.layout import (
    ALONE,
    ANSWERS,
    BEST,
    CELL,
    CLIENTS,
    ENVIRONMENT,
    FAILURE,
    HISTORY,
    LAST,
    PARTITION,
    PLAN,
    PREDICTIONS,
    PREDICTOR,
    PREDICTOR_ABOUT,
    PREDICTOR_WEIGHTS,
    RESULT,
    TRACKING,
    TRIAL,
    predictions_file,
)
from tests.fuzz.generators.nonsense import MODELS, Invocation, Small, linked_copy
from tests.fuzz.harness import invoke
from tests.fuzz.payloads import PAYLOADS, SECRET, Outside, put

OF_A_RUN = (PLAN, ENVIRONMENT, "sweeps/found.json", "sweeps/found.toml", "sweeps/study.db", "timing/part.json")
OF_A_CELL = (
    CELL, RESULT, FAILURE, TRIAL, HISTORY, PREDICTIONS, predictions_file("val"), f"{PREDICTOR}/{PREDICTOR_ABOUT}",
    f"{PREDICTOR}/{PREDICTOR_WEIGHTS}", PARTITION, ALONE, TRACKING, f"{ANSWERS}/calibration.json",
    f"{ANSWERS}/calibration.failure.json", LAST, BEST, f"{CLIENTS}/0/round-1.npz",
)  # fmt: skip
GRID = ["--models", ",".join(MODELS), "--datasets", "phantom-brain", "--regimes", "centralized,fedavg",
        "--seeds", "1", "--protocol", "demo"]  # fmt: skip
SMALL = [part for setting in ("image_size=32", "epochs=1", "synthetic_images=60", "timing_batch_size=2",
                              "bootstrap_resamples=100") for part in ("--set", setting)]  # fmt: skip
Opener = Callable[[Path, Path, Path], list[str]]
# (the run, its harmed cell, a folder for what comes out) -> a command that opens the run.
OPENERS: tuple[Opener, ...] = (
    lambda run, cell, out: ["report", str(run), "--out", str(out)],
    lambda run, cell, out: ["report", str(run), "--html"],
    lambda run, cell, out: ["compare", str(run), *MODELS, "--out", str(out)],
    lambda run, cell, out: ["check", str(run), "--baseline", str(run)],
    lambda run, cell, out: ["check", str(run), "--baseline", str(out / "b.json"), "--update"],
    lambda run, cell, out: ["analyze", str(run), "--with", "calibration"],
    lambda run, cell, out: ["predict", str(cell), str(run.parent / "picture.png")],
    lambda run, cell, out: ["fed", "gaps", str(run)],
    lambda run, cell, out: ["runs", "show", str(run)],
    lambda run, cell, out: ["runs", "merge", str(run), "--out", str(out / "merged")],
    lambda run, cell, out: ["runs", "archive", str(run), "--out", str(out / "run.tar.gz")],
    lambda run, cell, out: ["run", "--dry-run", *GRID, *SMALL, "--out", str(run)],
    lambda run, cell, out: ["reproduce", "--dry-run", "--weights", "none", "--out", str(run)],
)  # fmt: skip


@contextmanager
def starting_nothing() -> Iterator[None]:
    """Fail when a program is started, a pickle finds a class by which it could, or code is compiled from a folder."""
    if not _WATCH:
        sys.addaudithook(_heard)
    _WATCH[:] = [True]
    _STARTED.clear()
    try:
        yield
    finally:
        _WATCH[:] = [False]
    assert not _STARTED, _STARTED


_WATCH: list[bool] = []
_STARTED: list[tuple[str, Any]] = []


def _heard(event: str, about: Any) -> None:
    # Audit hooks cannot be taken away again.
    if not _WATCH[0]:
        return
    started = event in (
        "subprocess.Popen",
        "os.system",
        "os.exec",
        "os.posix_spawn",
        "os.spawn",
        "os.fork",
        "pty.spawn",
    )
    # How ctypes finds a library, once a process.
    if started and about[0] in ("/sbin/ldconfig",):
        return
    if started or (event == "pickle.find_class" and about[0] in ("os", "posix", "builtins", "subprocess")):
        _STARTED.append((event, about[:2]))


def opened(
    small: Small, tmp_path: Path, payload: Any, name: str, openers: tuple[Opener, ...], outside: Outside
) -> None:
    """Put a payload at a place of a run, open the run, and look for traces."""
    from PIL import Image

    run = linked_copy(small.run, tmp_path / "run")
    cells = sorted((run / "cells").iterdir())
    federated = [cell for cell in cells if (cell / PARTITION).is_file()]
    cell = federated[0] if name in (PARTITION, f"{CLIENTS}/0/round-1.npz") else cells[0]
    put(payload, (run / name) if name in OF_A_RUN else (cell / name), outside)
    Image.new("RGB", (16, 16)).save(tmp_path / "picture.png")
    for opener in openers:
        words = opener(run, cell, tmp_path / "out")
        with starting_nothing():
            status, problem = invoke(Invocation(words, (0, 1, 2)))
        assert problem == "", (payload.__name__, name, words, problem)
        assert status in (0, 1, 2)
        outside.refuse_traces()
    _refuse_secrets(tmp_path, outside)


def _refuse_secrets(folder: Path, outside: Outside) -> None:
    hidden = [SECRET.encode(), base64.b64encode(SECRET.encode())[:-4]]
    for path in folder.rglob("*"):
        if path.is_file() and not path.is_symlink() and path.suffix in (".html", ".md", ".csv", ".tex", ".json"):
            text = path.read_bytes()
            assert not any(each in text for each in hidden), f"{path} tells what lies outside"


@pytest.mark.slow
@pytest.mark.parametrize("payload", PAYLOADS, ids=lambda payload: payload.__name__)
def test_a_strangers_run_executes_nothing(small: Small, tmp_path: Path, payload: Any) -> None:
    # Each command meets each payload, each payload each file; which command opens which file turns with the payload.
    turns = itertools.cycle(OPENERS)
    for _ in range(PAYLOADS.index(payload)):
        next(turns)
    for number, name in enumerate((*OF_A_RUN, *OF_A_CELL)):
        folder = tmp_path / str(number)
        folder.mkdir()
        opened(small, folder, payload, name, (next(turns),), Outside.at(tmp_path / "outside"))


@pytest.mark.long
@pytest.mark.parametrize("payload", PAYLOADS, ids=lambda payload: payload.__name__)
def test_every_command_on_every_payload_in_every_file(small: Small, tmp_path: Path, payload: Any) -> None:
    for number, name in enumerate((*OF_A_RUN, *OF_A_CELL)):
        folder = tmp_path / str(number)
        folder.mkdir()
        opened(small, folder, payload, name, OPENERS, Outside.at(tmp_path / "outside"))


@pytest.mark.long
@pytest.mark.parametrize("payload", PAYLOADS, ids=lambda payload: payload.__name__)
@pytest.mark.parametrize("name", [LAST, BEST, f"{CLIENTS}/0/round-1.npz", CELL, FAILURE, HISTORY, PREDICTIONS])
def test_a_strangers_run_is_gone_on_with_and_executes_nothing(
    small: Small, tmp_path: Path, payload: Any, name: str
) -> None:
    """Without results, each cell begins with what the stranger left for it to go on from."""
    outside = Outside.at(tmp_path / "outside")
    run = linked_copy(small.run, tmp_path / "run")
    for cell in (run / "cells").iterdir():
        (cell / RESULT).unlink()
        put(payload, cell / name, outside)
    with starting_nothing():
        words = ["run", *GRID, *SMALL, "--timing", "off", "--progress", "none", "--out", str(run)]
        status, problem = invoke(Invocation(words, (0, 1, 2)), limit=300)
    assert problem == ""
    # A link out of the folder is refused; everything else is set aside or written anew.
    assert status == (2 if payload.__name__ == "link" else 0)
    outside.refuse_traces()


@pytest.mark.parametrize("suffix", [".safetensors", ".pth", ".pt", ".bin", ".ckpt"])
@pytest.mark.parametrize("payload", PAYLOADS, ids=lambda payload: payload.__name__)
def test_a_strangers_weights_execute_nothing(tmp_path: Path, payload: Any, suffix: str) -> None:
    from bench.core.errors import UserError
    from models.weights.files import describe

    outside = Outside.at(tmp_path / "outside")
    path = tmp_path / f"weights{suffix}"
    put(payload, path, outside)
    with starting_nothing(), pytest.raises(UserError, match=r"weights"):
        describe(path)
    outside.refuse_traces()


@pytest.mark.parametrize("kind", ["study.db", "study.log"])
@pytest.mark.parametrize("payload", PAYLOADS, ids=lambda payload: payload.__name__)
def test_a_strangers_study_executes_nothing(tmp_path: Path, payload: Any, kind: str) -> None:
    from bench.core.errors import UserError
    from sweeps.objectives import Objective
    from sweeps.study import Settings, open_study

    outside = Outside.at(tmp_path / "outside")
    path = tmp_path / kind
    put(payload, path, outside)
    settings = Settings("study", (Objective("accuracy", "max"),), 1, "none", 1)
    with starting_nothing(), pytest.raises(UserError, match=str(path)):
        open_study(settings, f"sqlite:///{path}" if kind == "study.db" else str(path))
    outside.refuse_traces()


@pytest.mark.slow
@pytest.mark.parametrize("payload", PAYLOADS, ids=lambda payload: payload.__name__)
def test_a_strangers_cache_executes_nothing(small: Small, tmp_path: Path, payload: Any) -> None:
    """Scans, decoded images, counts, audits and records of datasets, as `bench data` and a report open them."""
    from PIL import Image

    env = {"BENCH_HOME": str(tmp_path / "home"), "BENCH_CACHE": str(tmp_path / "cache")}
    for number in range(8):
        place = tmp_path / "set" / "ab"[number % 2] / f"{number}.png"
        place.parent.mkdir(parents=True, exist_ok=True)
        pixels = np.random.default_rng(number).integers(0, 256, (16, 16, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(place)
    lines = (["add", "fuzzed", str(tmp_path / "set")], ["prepare", "fuzzed", "--size", "16"], ["audit", "fuzzed"])
    for line in lines:
        assert invoke(Invocation(["data", *line], env=env)) == (0, "")
    outside = Outside.at(tmp_path / "outside")
    for path in [path for part in ("home", "cache") for path in sorted((tmp_path / part).rglob("*")) if path.is_file()]:
        if path.suffix == ".u8" or path.name.endswith("lock"):
            continue
        whole = path.read_bytes()
        put(payload, path, outside)
        for line in (["show", "fuzzed"], *lines[1:]):
            with starting_nothing():
                _, problem = invoke(Invocation(["data", *line], env=env))
            assert problem == "", (path, line)
            if payload.__name__ == "link":
                # The folders are the user's own, who may have put a part of them elsewhere: a link there is followed.
                outside.secret.write_text(SECRET)
            outside.refuse_traces()
        path.unlink(missing_ok=True)
        path.write_bytes(whole)


@pytest.mark.parametrize("payload", PAYLOADS, ids=lambda payload: payload.__name__)
def test_a_clients_reply_executes_nothing(tmp_path: Path, payload: Any) -> None:
    """What a client sends in place of an array is refused, whatever it is and however it names itself."""
    from flwr.app import Array

    from federated.transport.wire import from_array

    outside = Outside.at(tmp_path / "outside")
    path = tmp_path / "reply"
    put(payload, path, outside)
    objects = np.array([path.read_bytes()], dtype=object)
    for data in (path.read_bytes(), objects.tobytes(), _npy_of_objects(outside)):
        for kind in ("numpy.ndarray", "torch.Tensor", "pickle"):
            with starting_nothing(), pytest.raises(ValueError, match="an array came that cannot be read"):
                from_array(Array(dtype="object", shape=(1,), stype=kind, data=data))
    outside.refuse_traces()


def _npy_of_objects(outside: Outside) -> bytes:
    from tests.fuzz.generators.nonsense import npy
    from tests.fuzz.payloads import Reduced

    return npy(np.array([Reduced(outside.mark)], dtype=object))


def test_the_watch_sees_what_it_watches_for(tmp_path: Path) -> None:
    import pickle

    outside = Outside.at(tmp_path / "outside")
    from tests.fuzz.payloads import pickled

    pickled(tmp_path / "file", outside)
    with pytest.raises(AssertionError, match="find_class"), starting_nothing():
        pickle.loads((tmp_path / "file").read_bytes())
    with pytest.raises(AssertionError, match="was executed"):
        outside.refuse_traces()
