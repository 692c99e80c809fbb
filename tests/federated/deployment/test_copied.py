"""What `bench fed init` writes, used elsewhere than where it was made, by Debian's nginx, systemd and compose."""

from __future__ import annotations

import errno
import http.client
import shutil
import socket
import ssl
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from cryptography import x509

from bench.core.errors import UserError
from federated.deployment import checks, members, membership, operate
from federated.deployment.apps import discreet
from federated.deployment.consortium import Consortium, Site, create
from federated.deployment.keys import site_key
from federated.deployment.programs import environment
from federated.deployment.task import OtherVersion

SITES = ["hospital-a", "hospital-b"]
needs = pytest.mark.skipif


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture
def made(tmp_path: Path) -> Consortium:
    """A consortium that was made in one place and copied to another; the first is gone."""
    create(tmp_path / "first", "trial", "127.0.0.1", free_port(), SITES, free_port())
    shutil.copytree(tmp_path / "first", tmp_path / "second")
    shutil.rmtree(tmp_path / "first")
    return Consortium.open(tmp_path / "second")


@pytest.fixture
def upstream(made: Consortium) -> Iterator[list[tuple[str, bytes]]]:
    """A server in the SuperLink's place: (path, body) of what reaches it, answered by `answer` of the test."""
    got: list[tuple[str, bytes]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            got.append((self.path, self.rfile.read(int(self.headers.get("Content-Length", 0)))))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", made.internal_port), Handler)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(made.server / "server.crt", made.server / "server.key")
    server.socket = context.wrap_socket(server.socket, server_side=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield got
    server.shutdown()
    server.server_close()


def all_files(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


def test_no_file_knows_where_it_was_made(made: Consortium, tmp_path: Path) -> None:
    for path in all_files(made.folder):
        assert str(tmp_path).encode() not in path.read_bytes(), path
    environment(made)
    text = (made.home / "config.toml").read_text()
    assert str(made.server / "ca.crt") in text


def test_the_server_s_folder_alone_is_enough_for_the_server(made: Consortium, tmp_path: Path) -> None:
    shutil.move(made.server, tmp_path / "moved")
    shutil.rmtree(made.folder)
    moved = Consortium.open(tmp_path / "moved")
    assert (moved.sites, moved.server) == (tuple(SITES), tmp_path / "moved")
    assert {finding.verdict for finding in checks.check_server(moved)} == {"ok"}
    needed = [word for word in operate.server_command(moved) if str(tmp_path) in word and "/bin/" not in word]
    assert len(needed) == 3
    assert all(Path(word).is_file() for word in needed)
    with pytest.raises(UserError, match=r"only with them, on the machine where they are kept"):
        members.renew(moved)


def test_keys_keep_their_mode_and_appear_in_no_other_file(made: Consortium) -> None:
    members.renew(made)
    keys = [path for path in all_files(made.folder) if path.suffix == ".key"]
    assert len(keys) == 2 + len(SITES)
    assert all(stat.S_IMODE(key.stat().st_mode) == 0o600 for key in keys)
    for key in keys:
        secret = key.read_bytes().splitlines()[2]
        others = [path for path in all_files(made.folder) if path != key]
        assert not [path for path in others if secret in path.read_bytes()]


@needs(shutil.which("systemd-analyze") is None, reason="systemd is not installed")
@pytest.mark.parametrize("unit", ["server/bench-fed-server.service", "sites/hospital-a/bench-fed-site.service"])
def test_the_units_pass_systemd_s_own_check(made: Consortium, tmp_path: Path, unit: str) -> None:
    text = (made.folder / unit).read_text()
    assert "StateDirectory=bench/trial" in text
    assert "BENCH_CACHE=/var/lib/bench/trial/cache" in text
    # The check wants a program that is there.
    here = text.replace("/usr/local/bin/bench", shutil.which("true") or "")
    (tmp_path / Path(unit).name).write_text(here)
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", str(tmp_path / Path(unit).name)], capture_output=True, text=True
    )
    assert (done.returncode, Path(unit).name in done.stderr) == (0, False), done.stderr


@needs(shutil.which("docker-compose") is None, reason="Debian's docker-compose is not installed")
@pytest.mark.parametrize("folder", ["server", "sites/hospital-a"])
def test_the_compose_files_pass_compose_s_own_check(made: Consortium, folder: str) -> None:
    place = made.folder / folder
    (place / ".env").write_text("DATASET=clinic\nIMAGES=/srv/images\n")
    done = subprocess.run(["docker-compose", "config"], cwd=place, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert f"{place}:" in done.stdout  # the folder itself, wherever it lies
    for name in ("Dockerfile", *(["nginx.conf", "ca.crt", "consortium.toml"] if folder == "server" else ["site.toml"])):
        assert (place / name).is_file()


@needs(shutil.which("docker-compose") is None, reason="Debian's docker-compose is not installed")
def test_a_site_s_compose_file_without_a_dataset_says_so(made: Consortium) -> None:
    done = subprocess.run(
        ["docker-compose", "config"],
        cwd=made.site("hospital-a"),
        capture_output=True,
        text=True,
        env={"PATH": "/usr/bin"},
    )
    assert done.returncode != 0
    assert "the name of the dataset" in done.stderr or "the folder of the images" in done.stderr


def post(made: Consortium, path: str) -> int:
    context = ssl.create_default_context(cafile=str(made.server / "ca.crt"))
    connection = http.client.HTTPSConnection("127.0.0.1", made.port, context=context, timeout=10)
    connection.putrequest("POST", path, skip_accept_encoding=True)
    connection.putheader("Content-Length", "4")
    connection.endheaders(b"body")
    status = connection.getresponse().status
    connection.close()
    return status


@pytest.fixture
def nginx(made: Consortium, tmp_path: Path) -> Iterator[Consortium]:
    """A real nginx with the file as it was written."""
    if shutil.which("nginx") is None:
        pytest.skip("Debian's nginx is not installed")
    options = f"daemon off; pid {tmp_path / 'pid'};"
    command = ["nginx", "-p", str(made.server), "-c", "nginx.conf", "-e", str(tmp_path / "errors"), "-g", options]
    process = subprocess.Popen(command)
    deadline = time.monotonic() + 20
    while socket.socket().connect_ex(("127.0.0.1", made.port)) and time.monotonic() < deadline:
        assert process.poll() is None, (tmp_path / "errors").read_text()
        time.sleep(0.05)
    yield made
    process.terminate()
    process.wait(timeout=20)


FOREIGN = [
    *("/v1/control/start-run", "/v1/control/register-node", "/", "/docs", "/v1/fleet/../control/start-run"),
    *("/v1/control/../fleet/pull-messages", "/v1/fleet/%2e%2e/control/start-run", "/v1/fleet/..%2fcontrol/start-run"),
    *("//v1/control/start-run", "/V1/control/start-run", "/v1/fleet/pull-messages/../../control/start-run"),
    *("/v1/fleet/a?/../control", "/v1/runtime/pull", "/v1/fleet", "/v1/fleet/"),
]


def test_nginx_passes_the_fleet_path_and_refuses_every_other(
    nginx: Consortium, upstream: list[tuple[str, bytes]]
) -> None:
    assert post(nginx, "/v1/fleet/pull-messages") == 200
    assert upstream == [("/v1/fleet/pull-messages", b"body")]
    assert {path: post(nginx, path) for path in FOREIGN} == dict.fromkeys(FOREIGN, 404)
    assert len(upstream) == 1


def test_a_renewed_certificate_is_the_authority_s_and_the_sites_keep_theirs(made: Consortium) -> None:
    before = {path: path.read_bytes() for path in all_files(made.folder)}
    members.renew(made)
    changed = [path.name for path in all_files(made.folder) if before.get(path) != path.read_bytes()]
    assert sorted(changed) == ["server.crt", "server.key"]
    authority = x509.load_pem_x509_certificate((made.server / "ca.crt").read_bytes())
    x509.load_pem_x509_certificate((made.server / "server.crt").read_bytes()).verify_directly_issued_by(authority)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(made.server / "server.crt", made.server / "server.key")


def test_a_revoked_key_is_registered_no_more(made: Consortium, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[str, ...]] = []

    def flwr(_: Consortium, *words: str) -> subprocess.CompletedProcess[str]:
        asked.append(words)
        return subprocess.CompletedProcess(words, 0, f'{{"success": true, "node-id": "{len(asked)}"}}', "")

    monkeypatch.setattr(members, "flwr", flwr)
    assert not members.revoke(made, "hospital-b")
    members.register(made)
    assert [Path(words[2]).name for words in asked] == ["hospital-a.pub"]
    assert members.revoke(made, "hospital-a")
    assert asked[-1][:3] == ("supernode", "unregister", "1")
    with pytest.raises(UserError, match=r"no site 'hospital-c'; its sites are hospital-a, hospital-b"):
        members.revoke(made, "hospital-c")


@pytest.mark.parametrize(
    ("line", "words"),
    [
        (
            "ERROR: [/v1/fleet/activate-node][ApiError:1201] Attempted to register SuperNode with public key: b'x', "
            "exception: No SuperNode found with the given public key.",
            "a site was refused: its key is not registered here or was revoked",
        ),
        (
            "ERROR: [/v1/fleet/activate-node][ApiError:1201] Attempted, exception: SuperNode with node ID 7 could "
            "not be activated.",
            "still counts as connected",
        ),
        ('INFO: 127.0.0.1:1 - "POST /v1/fleet/pull-messages HTTP/1.1" 401', "its clock and this one are more than"),
    ],
)
def test_the_server_says_why_it_refused(made: Consortium, line: str, words: str) -> None:
    explained = members.Explained(made, quiet=3)
    first, said = explained(line)
    assert first == line
    assert said.startswith("bench: ")
    assert words in said
    assert list(explained(line)) == [line]
    assert list(explained("INFO: all is well")) == ["INFO: all is well"]
    assert len(list(explained(line))) == 2


def test_the_server_says_at_its_start_who_can_reach_the_control_interface(made: Consortium) -> None:
    assert "whoever has an account on this machine can start code" in operate._exposure(made, "127.0.0.1")
    assert f"whoever reaches port {made.internal_port} of 0.0.0.0" in operate._exposure(made, "0.0.0.0")


def answers(monkeypatch: pytest.MonkeyPatch, *given: membership.Answer) -> None:
    queue = list(given)
    monkeypatch.setattr(membership, "ask", lambda _: queue.pop(0) if len(queue) > 1 else queue[0])


def test_a_site_that_is_refused_is_told_so_and_stops(
    made: Consortium, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    site = Site.open(made.site("hospital-a"))
    answers(monkeypatch, "away", "refused", "refused", "taken")
    operate.await_admission(site, patience=60, pause=0)
    assert capsys.readouterr().out.count("does not take this site's key") == 1
    answers(monkeypatch, "refused")
    with pytest.raises(UserError, match=r"not registered there or was revoked.*ask the server's operator"):
        operate.await_admission(site, patience=0.05, pause=0.01)


@pytest.mark.parametrize(("answer", "words"), [("clock", "switch on NTP"), ("closed", "passes no /v1/fleet/")])
def test_every_refusal_has_its_sentence(
    made: Consortium, monkeypatch: pytest.MonkeyPatch, answer: membership.Answer, words: str
) -> None:
    answers(monkeypatch, answer)
    site = Site.open(made.site("hospital-a"))
    found = {finding.what: finding for finding in checks.check_site(site, "phantom-brain")}["membership"]
    assert (found.verdict, words in found.words) == ("failed", True)


def test_a_key_that_is_none_is_refused_in_words(made: Consortium) -> None:
    site = Site.open(made.site("hospital-a"))
    (site.folder / "site.key").write_bytes(site_key()[1])
    with pytest.raises(UserError, match=r"site.key is no key that can be read"):
        membership.ask(site)


def test_a_server_that_is_away_is_away(made: Consortium) -> None:
    assert membership.ask(Site.open(made.site("hospital-a"))) == "away"


def wrapped(error: OSError) -> UserError:
    found = UserError("no space left to write /srv/patients/4711.npz; free some and start again, nothing is lost")
    found.__cause__ = error
    return found


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (lambda: OtherVersion("the task is of version 2, this site runs 1; install one everywhere"), "install one"),
        (lambda: OSError(errno.ENOSPC, "No space left", "/srv/patients/4711.npz"), "no space left on the site's disk"),
        (lambda: wrapped(OSError(errno.ENOSPC, "No space left", "/srv/4711")), "no space left on the site's disk"),
        (lambda: UserError("4711 of /srv/patients has the label melanoma"), "UserError at the site"),
    ],
)
def test_what_the_server_hears_of_a_failure_names_no_path(error: Callable[[], Exception], words: str) -> None:
    told = discreet(error())
    assert words in told
    assert not any(secret in told for secret in ("4711", "srv", "melanoma"))


def test_an_expired_certificate_is_told_on_both_sides(
    made: Consortium, upstream: list[tuple[str, bytes]], monkeypatch: pytest.MonkeyPatch
) -> None:
    class Late(ssl.SSLContext):
        def wrap_socket(self, *_: object, **__: object) -> ssl.SSLSocket:  # type: ignore[override]
            error = ssl.SSLCertVerificationError(1, "certificate verify failed")
            error.verify_message = "certificate has expired"
            raise error

    monkeypatch.setattr(checks.ssl, "create_default_context", lambda **_: Late(ssl.PROTOCOL_TLS_CLIENT))
    site = Site.open(made.site("hospital-a"))
    direct = Site(**{**vars(site), "port": made.internal_port})
    found = {finding.what: finding for finding in checks.check_site(direct, "phantom-brain")}["server"]
    assert found.verdict == "failed"
    assert "has ended by this machine's clock" in found.words
    assert "bench fed renew" in found.words
    monkeypatch.setattr(checks, "days_left", lambda _: -3.0)
    server = {finding.what: finding for finding in checks.check_server(made)}["server certificate"]
    assert "ended 3 days ago; `bench fed renew`" in server.words


@pytest.mark.skipif(sys.platform == "darwin", reason="Debian's packages")
def test_the_image_is_built_from_this_version(made: Consortium) -> None:
    import bench

    text = (made.server / "Dockerfile").read_text()
    assert f"deepmedix-bench=={bench.__version__}" in text
    assert '"${PACKAGE}"' in text


def test_a_site_waits_for_a_server_that_is_away_and_its_check_fails(made: Consortium) -> None:
    site = Site.open(made.site("hospital-a"))
    waiting = {finding.what: finding.verdict for finding in checks.check_site(site, "phantom-brain", waits=True)}
    assert set(waiting.values()) == {"ok", "warning"}
    checked = {finding.what: finding.verdict for finding in checks.check_site(site, "phantom-brain")}
    assert {what for what, verdict in checked.items() if verdict == "failed"} == {"server", "clock"}
