"""W&B offline files read back record by record with W&B's own protocol buffers."""

from __future__ import annotations

import json
import socket
import time
import urllib.error
import urllib.request
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bench.core.errors import UserError
from bench.store.run import Run
from reports.wandb import network
from reports.wandb import tracking as subject

wandb = pytest.importorskip("wandb")


def records(path: Path) -> list[Any]:
    """The records of an offline file: LevelDB's log format in blocks of 32 KiB, each piece with its checksum.

    W&B ships no reader for Python any more; its record type is what parses the content.
    """
    from wandb.proto import wandb_internal_pb2

    data, found, parts, at = path.read_bytes(), [], b"", 7
    assert data[:4] == b":W&B"
    while at + 7 <= len(data):
        room = 32768 - at % 32768
        if room < 7:
            at += room
            continue
        checksum, length = int.from_bytes(data[at : at + 4], "little"), int.from_bytes(data[at + 4 : at + 6], "little")
        kind = data[at + 6]
        piece = data[at + 7 : at + 7 + length]
        if len(piece) < length:  # still being written
            break
        assert zlib.crc32(piece, zlib.crc32(bytes([kind]))) == checksum
        parts += piece
        if kind in (1, 4):
            record = wandb_internal_pb2.Record()
            record.ParseFromString(parts)
            found.append(record)
            parts = b""
        at += 7 + length
    return found


def read_back(run: Path) -> dict[str, Any]:
    """By W&B id: config, summary, history rows, exit code, of every offline file in a run."""
    found: dict[str, Any] = {}
    for path in sorted(run.glob("wandb/offline-run-*/run-*.wandb")):
        for record in records(path):
            kind = record.WhichOneof("record_type")
            if kind == "run":
                entry = found.setdefault(record.run.run_id, {"history": [], "summary": {}, "config": {}, "files": 0})
                entry["files"] += 1
                entry |= {"group": record.run.run_group, "name": record.run.display_name}
                entry["config"] |= _items(record.run.config.update)
            elif kind == "config":
                entry["config"] |= _items(record.config.update)
            elif kind == "history":
                entry["history"].append(_items(record.history.item))
            elif kind == "summary":
                entry["summary"] |= _items(record.summary.update)
            elif kind == "exit":
                entry["exit"] = record.exit.exit_code
    return found


def _items(items: Any) -> dict[str, Any]:
    return {item.key or "/".join(item.nested_key): json.loads(item.value_json) for item in items}


@pytest.fixture
def sent(new_run: Callable[[], Any], spec: Callable[..., dict[str, Any]], monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("WANDB_SILENT", "true")
    run = new_run()
    run.done(spec("deepmedix", "br35h", 0))
    run.done(spec("deepmedix", "phantom-skin", 0, "fedavg"))
    run.failed(spec("resnet18", "br35h", 0))
    subject.send(run.path, "offline")
    await_written(run.path)
    return run.path


def await_written(run: Path, seconds: float = 60) -> None:
    """W&B's own service writes the end of a file after `finish` has returned, later where cores are busy."""
    until = time.monotonic() + seconds
    files = list(run.glob("wandb/offline-run-*/run-*.wandb"))
    while not all(map(_ended, files)) and time.monotonic() < until:
        time.sleep(0.2)


def _ended(path: Path) -> bool:
    return any(record.WhichOneof("record_type") == "exit" for record in records(path))


def test_one_run_a_cell_with_config_history_summary_and_pictures(sent: Path) -> None:
    found = read_back(sent)
    assert len(found) == 2
    run = Run(sent)
    for cell in [cell for cell in run.cells() if cell.result is not None]:
        entry = found[subject.run_id(run, cell.key)]
        assert entry["group"] == sent.name
        assert entry["config"]["model"] == "deepmedix"
        assert entry["config"]["protocol"]["image_size"] == 96
        assert entry["config"]["environment"]["bench"] == "0.1.0"
        assert entry["exit"] == 0
        result = cell.result or {}
        assert entry["summary"]["accuracy"] == pytest.approx(result["metrics"]["accuracy"])
        assert entry["summary"]["accuracy_low"] == pytest.approx(result["intervals"]["accuracy"][0])
        assert entry["summary"]["macs_m"] == result["cost"]["macs_m"]
        steps = [row for row in entry["history"] if "val_accuracy" in row]
        assert len(steps) == 8
        stored = cell.history().to_pylist()
        assert [row["val_accuracy"] for row in steps] == pytest.approx([row["val_accuracy"] for row in stored])
        logged = {name.split("/")[0] for row in entry["history"] for name in row}
        assert {"predictions", "model_card"} <= logged
        assert any("confusion" in name for name in logged)
        assert any("roc" in name for name in logged)


def test_federated_rows_go_by_round(sent: Path) -> None:
    entry = next(e for e in read_back(sent).values() if e["config"]["regime"] == "fedavg")
    rows = [row for row in entry["history"] if "round" in row]
    assert [row["round"] for row in rows] == list(range(1, 9))
    assert rows[0]["up_mb"] == pytest.approx(4.1)


def test_sending_again_sends_nothing_twice(sent: Path) -> None:
    before = sorted(path.name for path in sent.glob("wandb/offline-run-*"))
    again = subject.send(sent, "offline")
    assert (again["sent"], again["already"]) == ([], 2)
    assert sorted(path.name for path in sent.glob("wandb/offline-run-*")) == before


class Cell:
    """What the runner hands a listener."""

    def __init__(self, key: str, spec: dict[str, Any]) -> None:
        self.key = key
        self.spec = self
        self._spec = spec

    def as_dict(self) -> dict[str, Any]:
        return self._spec


def test_a_resumed_cell_goes_on_under_its_id_after_the_last_sent_epoch(
    new_run: Callable[[], Any], spec: Callable[..., dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WANDB_SILENT", "true")
    fake = new_run()
    key = fake.done(spec("deepmedix", "br35h", 0))
    run = Run(fake.path)
    stored = run.cells()[0]
    rows = stored.history().to_pylist()
    with subject.Tracker(run, "offline") as tracker:
        tracker.started(Cell(key, stored.spec), stored.folder)
        for row in rows[:5]:
            tracker.event(key, {"event": "epoch", **row})
        tracker.event(key, {"event": "batch", "batch": 1})
    with subject.Tracker(run, "offline") as tracker:
        tracker.started(Cell(key, stored.spec), stored.folder)
        for row in rows[3:]:
            tracker.event(key, {"event": "epoch", **row})
        tracker.finished(stored)
    await_written(fake.path)
    [entry] = read_back(fake.path).values()
    epochs = [row["epoch"] for row in entry["history"] if "val_accuracy" in row]
    assert epochs == [row["epoch"] for row in rows]
    assert entry["exit"] == 0
    assert subject.send(fake.path, "offline")["already"] == 1


def test_losing_wandb_is_told_and_fails_nothing(
    new_run: Callable[[], Any], spec: Callable[..., dict[str, Any]], monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    def broken(**_: Any) -> Any:
        raise ConnectionError("no route")

    monkeypatch.setattr(wandb, "init", broken)
    fake = new_run()
    key = fake.done(spec("deepmedix", "br35h", 0))
    run = Run(fake.path)
    stored = run.cells()[0]
    with subject.Tracker(run, "offline") as tracker:
        tracker.started(Cell(key, stored.spec), stored.folder)
        tracker.event(key, {"event": "epoch", "epoch": 1, "val_accuracy": 0.5})
        tracker.finished(stored)
    assert [r.message for r in caplog.records] == [
        "W&B is lost for this cell (ConnectionError: no route); its results are kept"
    ]
    assert subject.send(fake.path, "offline")["lost"] == [key]
    assert run.cells()[0].status == "done"


def test_unknown_mode() -> None:
    with pytest.raises(UserError, match="offline or online"):
        subject.check_mode("sometimes")


def test_dashboard_says_why_there_is_none(sent: Path) -> None:
    from reports.load.source import load
    from reports.wandb.dashboard import dashboard

    assert "needs --wandb online" in dashboard(load(sent), "offline", "a-project")


def test_without_a_network_a_run_is_tracked_offline_and_it_is_said_once(
    new_run: Callable[[], Any],
    spec: Callable[..., dict[str, Any]],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Every cell used to wait for a minute and a half, and was lost."""
    asked: list[str] = []
    opened = urllib.request.urlopen

    def counted(address: str, timeout: float) -> Any:
        asked.append(address)
        return opened(address, timeout=timeout)

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{free.getsockname()[1]}"
    monkeypatch.setattr(network, "_address", lambda: address)
    monkeypatch.setattr(urllib.request, "urlopen", counted)
    run = new_run()
    run.done(spec("deepmedix", "br35h", 0))
    run.done(spec("deepmedix", "phantom-skin", 0, "fedavg"))
    outcome = subject.send(run.path, "online")
    assert (len(outcome["sent"]), outcome["lost"]) == (2, [])
    assert asked == [address]
    (said,) = [record.getMessage() for record in caplog.records if "does not answer" in record.getMessage()]
    folder = said.split("`wandb sync ")[1].split("`")[0]
    await_written(run.path)
    assert len(list(Path(folder).parent.glob(Path(folder).name))) == 2
    assert len(read_back(run.path)) == 2


def test_a_server_that_refuses_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(address: str, timeout: float) -> Any:
        raise urllib.error.HTTPError(address, 403, "no", {}, None)  # type: ignore[arg-type]

    monkeypatch.setattr(urllib.request, "urlopen", refuse)
    assert network.settled_mode("online", Path("run")) == "online"
    assert network.settled_mode("offline", Path("run")) == "offline"
