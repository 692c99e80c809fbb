from __future__ import annotations

import hashlib
import io
import json
import threading
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest

from bench.core.config import Protocol
from bench.core.errors import UserError
from bench.core.paths import home
from bench.data.download.fetch import fetch_dataset
from bench.data.download.folders import MARKER, fetched_folder
from bench.data.registry import DATASETS, load
from bench.data.sources.folder import read_folder
from bench.data.spec import DatasetSpec, Download


@dataclass
class Provider:
    """A server that breaks off, lies and refuses, as told."""

    files: dict[str, bytes] = field(default_factory=dict)
    break_after: int | None = None
    claim: int | None = None
    status: int = 200
    ranges: bool = True
    asked: list[str] = field(default_factory=list)
    address: str = ""


@pytest.fixture
def provider() -> Iterator[Provider]:
    served = Provider()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            wanted = self.headers.get("Range", "")
            served.asked.append(wanted)
            data = served.files.get(self.path, b"")
            start = int(wanted.removeprefix("bytes=").rstrip("-")) if wanted and served.ranges else 0
            if served.status != 200 or (wanted and served.ranges and start >= len(data)):
                self.send_error(served.status if served.status != 200 else 416)
                return
            self.send_response(206 if wanted and served.ranges else 200)
            self.send_header("Content-Length", str(served.claim or len(data) - start))
            self.end_headers()
            body = data[start:]
            self.wfile.write(body if served.break_after is None else body[: served.break_after])

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    served.address = f"http://127.0.0.1:{server.server_port}"
    yield served
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture(autouse=True)
def _no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"):
        monkeypatch.delenv(name, raising=False)


def archive_of_pictures() -> bytes:
    from PIL import Image

    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for row in range(20):
            picture = io.BytesIO()
            pixels = np.random.default_rng(row).integers(0, 256, (20, 20, 3)).astype(np.uint8)
            Image.fromarray(pixels).save(picture, "PNG")
            archive.writestr(f"set/{'ab'[row % 2]}/{row}.png", picture.getvalue())
    return buffer.getvalue()


@pytest.fixture
def offer(provider: Provider) -> Iterator[Callable[..., bytes]]:
    def register(data: bytes | None = None, **options: object) -> bytes:
        body = data if data is not None else archive_of_pictures()
        provider.files["/set.zip"] = body
        checksum = options.pop("checksum", f"md5:{hashlib.md5(body).hexdigest()}")
        file = Download(f"{provider.address}/set.zip", "set.zip", str(checksum), unpack=True)
        spec = DatasetSpec(
            "offered", "Offered", "a test", lambda path, _: read_folder("offered", path / "set"),
            licence="CC BY 4.0", address="http://example.org", hint="`bench data fetch offered`", downloads=(file,),
        )  # fmt: skip
        DATASETS._items["offered"] = spec
        return body

    yield register
    DATASETS._items.pop("offered", None)


def test_a_fetched_dataset_is_checked_unpacked_and_available(offer, provider: Provider):
    offer()
    seen: list[tuple[int, int]] = []
    folder = fetch_dataset("offered", True, lambda done, total: seen.append((done, total)))
    assert fetched_folder("offered") == folder
    assert len(load("offered", Protocol())) == 20
    assert seen[-1][0] == seen[-1][1] > 0
    assert not list(folder.glob("*.zip"))
    asked = len(provider.asked)
    assert fetch_dataset("offered", False) == folder
    assert len(provider.asked) == asked


def test_the_licence_is_shown_and_must_be_accepted(offer, provider: Provider):
    offer()
    with pytest.raises(UserError, match=r"under the licence 'CC BY 4.0'.*--accept-licence"):
        fetch_dataset("offered", False)
    assert not provider.asked


def test_a_broken_connection_leaves_nothing_that_looks_complete_and_goes_on_where_it_stopped(offer, provider: Provider):
    body = offer()
    provider.break_after = 1000
    for _ in range(2):
        with pytest.raises(UserError, match="fetch again to go on where it stopped"):
            fetch_dataset("offered", True)
        assert fetched_folder("offered") is None
    provider.break_after = None
    fetch_dataset("offered", True)
    assert provider.asked == ["", "bytes=1000-", "bytes=2000-"]
    assert len(body) > 2000
    assert len(load("offered", Protocol())) == 20


def test_a_server_without_ranges_is_asked_from_the_start(offer, provider: Provider):
    offer()
    provider.break_after = 500
    with pytest.raises(UserError, match=r"broke off|IncompleteRead"):
        fetch_dataset("offered", True)
    provider.break_after, provider.ranges = None, False
    fetch_dataset("offered", True)
    assert len(load("offered", Protocol())) == 20


def test_a_partial_file_that_is_already_whole_is_not_asked_for_in_vain(offer, provider: Provider):
    body = offer()
    part = home() / "fetched" / ".offered.part"
    part.mkdir(parents=True)
    (part / "set.zip.partial").write_bytes(body)
    fetch_dataset("offered", True)
    assert len(load("offered", Protocol())) == 20


def test_a_wrong_checksum_is_refused_and_not_resumed(offer, provider: Provider):
    offer(checksum="md5:00000000000000000000000000000000")
    with pytest.raises(UserError, match=r"gave a file with md5 .* 0000"):
        fetch_dataset("offered", True)
    assert fetched_folder("offered") is None
    assert not list((home() / "fetched").rglob("*.partial"))


def test_a_length_that_lies_is_noticed(offer, provider: Provider):
    body = offer()
    provider.claim = len(body) + 500
    with pytest.raises(UserError, match=r"broke off|IncompleteRead"):
        fetch_dataset("offered", True)
    assert fetched_folder("offered") is None


def test_a_hostile_archive_writes_nothing(offer, tmp_path: Path):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("../../../evil.txt", b"evil")
    offer(buffer.getvalue())
    with pytest.raises(UserError, match="wants to write outside its folder"):
        fetch_dataset("offered", True)
    assert not list(home().parent.rglob("evil.txt"))
    assert fetched_folder("offered") is None


def test_a_refusing_server_is_quoted(offer, provider: Provider):
    offer()
    provider.status = 403
    with pytest.raises(
        UserError, match="answers 403 Forbidden; try again later, or bring the files from another machine"
    ):
        fetch_dataset("offered", True)


def test_an_offline_machine_gets_a_clear_word(offer, provider: Provider, monkeypatch):
    import socket

    def unreachable(*_: object, **__: object) -> None:
        raise socket.gaierror(-3, "Temporary failure in name resolution")

    offer()
    monkeypatch.setattr(socket, "create_connection", unreachable)
    with pytest.raises(
        UserError,
        match=r"directly \(no https_proxy is set\).*name resolution.*or bring the files from another machine",
    ):
        fetch_dataset("offered", True)


def test_a_proxy_is_named_without_its_password(offer, monkeypatch):
    offer()
    monkeypatch.setenv("no_proxy", "")
    monkeypatch.setenv("http_proxy", "http://me:secret@127.0.0.1:9")
    monkeypatch.setenv("https_proxy", "http://me:secret@127.0.0.1:9")
    with pytest.raises(UserError, match="through the proxy") as refused:
        fetch_dataset("offered", True)
    assert "secret" not in str(refused.value)


def test_kaggle_sets_say_how_to_get_them():
    with pytest.raises(UserError, match=r"cannot be fetched by a program.*kaggle.com.*`bench data add br35h FOLDER`"):
        fetch_dataset("br35h", True)


def test_every_address_is_https_and_every_checksum_has_a_known_form():
    specs = [DATASETS.get(name) for name in [*DATASETS.names(), "medmnist:pathmnist", "medmnist:bloodmnist_224"]]
    files = [file for spec in specs for file in spec.downloads]
    assert len(files) >= 20
    for file in files:
        assert file.address.startswith("https://")
        algorithm, _, digest = file.checksum.partition(":")
        assert (algorithm, len(digest)) in {("", 0), ("md5", 32), ("sha256", 64)}


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize("answer", ["y", "n", ""])
def test_an_unverified_file_is_asked_for(
    offer, provider: Provider, answer: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    body = offer(checksum="")
    monkeypatch.setattr("sys.stdin", Terminal(f"{answer}\n"))
    if answer == "y":
        folder = fetch_dataset("offered", True)
        (entry,) = json.loads((folder / MARKER).read_text())["files"]
        assert not entry["verified"]
        assert entry["checksum"] == f"sha256:{hashlib.sha256(body).hexdigest()}"
        assert entry["size"] == len(body)
    else:
        with pytest.raises(UserError, match="was not fetched: the answer was no"):
            fetch_dataset("offered", True)
        assert provider.asked == []
    question = "unverified: the provider publishes no checksum of set.zip. Take it as it comes? [y/N]"
    assert question in capsys.readouterr().err


def test_the_command_refuses_without_a_terminal_and_goes_on_with_yes(offer, provider: Provider) -> None:
    from typer.testing import CliRunner

    from bench.cli.data import app

    offer(checksum="")
    words = ["fetch", "offered", "--accept-licence"]
    with pytest.raises(
        UserError, match=r"unverified: the provider publishes no checksum of set.zip; --yes or BENCH_YES=1"
    ):
        CliRunner().invoke(app, words, catch_exceptions=False)
    done = CliRunner().invoke(app, [*words, "--yes"])
    assert done.exit_code == 0
    assert "unverified" in done.output


SOURCES = [(name, file) for name in DATASETS.names() for file in DATASETS.get(name).downloads]


@pytest.mark.parametrize(("name", "file"), SOURCES, ids=[f"{name}-{file.filename}" for name, file in SOURCES])
def test_a_tampering_server_gets_nothing_in_from_any_source(
    provider: Provider, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str, file: Download
) -> None:
    """Another file in the place of each: told by its checksum, or never asked for without a yes."""
    provider.files["/file"] = b"x" * (file.size or 5000)
    tampered = replace(file, address=f"{provider.address}/file")
    spec = replace(DATASETS.get(name), name="tampered", downloads=(tampered,), same_files_as="")
    monkeypatch.setitem(DATASETS._items, "tampered", spec)
    with pytest.raises(UserError, match="gave a file with" if file.checksum else "unverified"):
        fetch_dataset("tampered", True)
    assert fetched_folder("tampered") is None
    assert not file.checksum or len(file.checksum.partition(":")[2]) >= 32
