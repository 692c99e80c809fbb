"""A consortium's folder and what is said of it before anything starts."""

from __future__ import annotations

import json
import os
import socket
import ssl
import stat
import threading
import tomllib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from typer.testing import CliRunner

from bench.cli.fed import app
from bench.core.config import load_protocol
from bench.core.errors import UserError
from federated.deployment import checks, operate
from federated.deployment.consortium import Consortium, Site, create
from federated.deployment.keys import Authority
from federated.deployment.task import Task

SITES = ["hospital-a", "hospital-b"]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture
def made(tmp_path: Path) -> Consortium:
    port = free_port()
    return create(tmp_path / "trial", "trial", "127.0.0.1", port, SITES, port)


@pytest.fixture
def served(made: Consortium) -> Iterator[Consortium]:
    """Something that speaks TLS with the consortium's certificate and tells the time."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(made.server / "server.crt", made.server / "server.key")
    listener = socket.create_server(("127.0.0.1", made.port))

    def serve() -> None:
        while True:
            try:
                raw, _ = listener.accept()
            except OSError:
                return
            try:
                with context.wrap_socket(raw, server_side=True) as connection:
                    connection.recv(1024)
                    connection.sendall(b"HTTP/1.1 404 Not Found\r\nDate: Thu, 01 Jan 1970 00:00:00 GMT\r\n\r\n")
            except OSError:
                continue

    threading.Thread(target=serve, daemon=True).start()
    yield made
    listener.close()


def verdicts(findings: list[checks.Finding]) -> dict[str, str]:
    return {finding.what: finding.verdict for finding in findings}


def test_the_folder_holds_what_each_party_needs(made: Consortium) -> None:
    assert Consortium.open(made.folder) == made
    site = Site.open(made.site("hospital-b"))
    assert (site.partition, site.partitions) == (1, 2)
    handed = {path.name for path in made.site("hospital-b").iterdir()}
    assert handed >= {"ca.crt", "site.key", "site.pub", "site.toml", "ADMINISTRATOR.md", "compose.yaml"}
    assert "ca.key" not in handed
    pages = [made.folder / "README.md", made.site("hospital-a") / "ADMINISTRATOR.md", made.server / "nginx.conf"]
    assert not any("$name" in page.read_text() for page in pages)
    assert "location /v1/fleet/" in pages[2].read_text()


def test_keys_are_readable_by_their_owner_only(made: Consortium) -> None:
    secrets = [made.folder / "authority" / "ca.key", made.server / "server.key", made.site("hospital-a") / "site.key"]
    assert all(stat.S_IMODE(path.stat().st_mode) == 0o600 for path in secrets)
    assert secrets[2].read_bytes() != (made.site("hospital-b") / "site.key").read_bytes()


def test_the_server_certificate_names_the_host_and_is_no_authority(made: Consortium) -> None:
    certificate = x509.load_pem_x509_certificate((made.server / "server.crt").read_bytes())
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert "localhost" in names.get_values_for_type(x509.DNSName)
    assert not certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca


def test_the_app_s_settings_are_those_that_a_run_sets(made: Consortium) -> None:
    config = tomllib.loads((made.server / "app" / "pyproject.toml").read_text())
    assert set(config["tool"]["flwr"]["app"]["config"]) == {
        "task",
        "out",
        "round-timeout",
        "gather-timeout",
        "minimum-sites",
    }
    assert config["project"]["dependencies"] == []


@pytest.mark.parametrize(
    ("name", "host", "sites", "message"),
    [
        ("Trial", "h", SITES, "will not do as a name"),
        ("trial", "https://h", SITES, "bare name or address"),
        ("trial", "h", ["a"], "two sites or more"),
        ("trial", "h", ["a", "a"], "different names"),
    ],
)
def test_names_are_checked(tmp_path: Path, name: str, host: str, sites: list[str], message: str) -> None:
    with pytest.raises(UserError, match=message):
        create(tmp_path / "new", name, host, 443, sites)


def test_keys_are_never_overwritten(made: Consortium) -> None:
    with pytest.raises(UserError, match="is not empty"):
        create(made.folder, "trial", "h", 443, SITES)


def test_a_server_in_order_is_found_so(made: Consortium) -> None:
    assert set(verdicts(checks.check_server(made)).values()) == {"ok"}


def test_a_taken_port_and_a_missing_key_are_told(made: Consortium) -> None:
    (made.server / "sites" / "hospital-a.pub").unlink()
    with socket.create_server(("127.0.0.1", made.internal_port)):
        found = verdicts(checks.check_server(made))
    assert found["port"] == "failed"
    assert found["sites"] == "warning"


def test_a_site_finds_the_server_and_a_wrong_clock(served: Consortium) -> None:
    site = Site.open(served.site("hospital-a"))
    found = verdicts(checks.check_site(site, "phantom-brain"))
    assert found["server"] == found["dataset"] == found["key"] == "ok"
    assert found["clock"] == "failed"
    with pytest.raises(UserError, match="switch on NTP"):
        checks.refuse_failures(checks.check_site(site, "phantom-brain"))


def test_another_authority_another_version_and_an_open_key_are_told(served: Consortium) -> None:
    site = Site.open(served.site("hospital-a"))
    (site.folder / "ca.crt").write_bytes(Authority.create("another").pem()[0])
    os.chmod(site.folder / "site.key", 0o644)  # noqa: PTH101
    findings = checks.check_site(replace(site, version="0.0.0"), "no-such-data")
    found = verdicts(findings)
    assert found["server"] == found["version"] == found["dataset"] == "failed"
    assert found["key"] == "warning"
    assert any("does not vouch for" in finding.words for finding in findings)


def test_a_server_that_is_not_there_is_told(made: Consortium) -> None:
    found = {f.what: f.words for f in checks.check_site(Site.open(made.site("hospital-a")), "phantom-brain")}
    assert "cannot be reached" in found["server"]


def test_the_commands_name_every_safeguard(made: Consortium) -> None:
    server = operate.server_command(made)
    site = operate.site_command(Site.open(made.site("hospital-a")), "phantom-brain")
    assert "--enable-supernode-auth" in server
    assert server[server.index("--host") + 1] == "127.0.0.1"
    assert "--insecure" not in [*server, *site]
    assert "--auth-supernode-private-key" in site


def test_a_task_survives_the_wire_and_another_version_is_refused() -> None:
    task = Task("trial", "deepmedix", "fedavg", load_protocol("demo"), ("a", "b"), 2)
    assert Task.from_json(task.to_json()) == task
    other = task.to_json().replace('"version":"', '"version":"9.')
    with pytest.raises(UserError, match="install one version everywhere"):
        Task.from_json(other)


@pytest.mark.parametrize(
    "change",
    [
        {"protocol": {"epochs": "many"}}, {"protocol": []}, {"classes": "ab"}, {"sites": -1}, {"seed": None},
        {"statistics": "%"}, {"statistics": 7}, {"more": 1},
    ],
)  # fmt: skip
def test_what_is_no_task_is_a_sentence(change: dict[str, Any]) -> None:
    text = Task("trial", "deepmedix", "fedavg", load_protocol("demo"), ("a", "b"), 2).to_json()
    with pytest.raises(UserError, match=r"^the task .*; install one version everywhere$"):
        Task.from_json(json.dumps({**json.loads(text), **change}))
    for damaged in ("", "[]", "{" * 100_000, text[:-1]):
        with pytest.raises(UserError, match=r"^the task "):
            Task.from_json(damaged)


def test_commands_answer_in_words(made: Consortium, tmp_path: Path) -> None:
    runner = CliRunner()
    checked = runner.invoke(app, ["check", str(made.folder), "--json"])
    assert checked.exit_code == 0
    assert '"verdict": "ok"' in checked.stdout
    shown = runner.invoke(app, ["partition", "phantom-brain", "--protocol", "demo", "--json"])
    assert '"clients"' in shown.stdout
    new = runner.invoke(app, ["init", str(tmp_path / "x"), "--host", "h", "--sites", "a,b"])
    assert new.exit_code == 0
    with pytest.raises(UserError, match="`bench fed init` makes one"):
        runner.invoke(app, ["server", str(tmp_path)], catch_exceptions=False)


@pytest.mark.parametrize("host", ["x;}", "a b", "a/b", "a:1", "-a.org", "a..b", "a" * 64, "$host", "x\n"])
def test_a_host_is_a_host_and_nothing_else(tmp_path: Path, host: str) -> None:
    with pytest.raises(UserError, match="--host takes the bare name or address"):
        create(tmp_path / "made", "trial", host, 8443, ["a", "b"])
    assert not (tmp_path / "made").exists()
