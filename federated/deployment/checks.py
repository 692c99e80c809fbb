"""What can be wrong before a server or a site starts, each in clear words."""

from __future__ import annotations

import socket
import ssl
import time
from collections.abc import Callable
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from pathlib import Path

import bench
from bench.core.errors import UserError
from bench.core.schema import read_bytes
from federated.deployment.consortium import Consortium, Site
from federated.deployment.keys import days_left, is_valid_yet

_SOON_DAYS, _CLOCK_SECONDS, _TIMEOUT = 30, 60, 5.0


@dataclass(frozen=True)
class Finding:
    """One look.

    Attributes:
        verdict: `ok`, `warning` (goes on) or `failed` (will not work).
    """

    what: str
    verdict: str
    words: str


def check_server(made: Consortium) -> list[Finding]:
    """Look at the server's machine: certificates, keys, port, Flower's version."""
    port = made.internal_port
    return [
        _guarded("server certificate", lambda: _certificate("server certificate", made.server / "server.crt")),
        _guarded("authority", lambda: _certificate("authority", made.server / "ca.crt")),
        _guarded("port", lambda: _free_port(port)),
        _guarded("sites", lambda: _site_keys(made)),
        _guarded("flower", _flower),
    ]


def check_site(site: Site, dataset: str, waits: bool = False) -> list[Finding]:
    """Look at a site's machine: version, key, authority, clock, the way to the server, the dataset.

    Args:
        waits: whether a server that does not answer is waited for, and so no failure.
    """
    return [
        _guarded("version", lambda: _version(site)),
        _guarded("key", lambda: _private_key(site.folder / "site.key")),
        _guarded("authority", lambda: _certificate("authority", site.folder / "ca.crt")),
        _guarded("server", lambda: _reachable(site, waits)),
        _guarded("clock", lambda: _clock(site, waits)),
        _guarded("membership", lambda: _membership(site)),
        _guarded("dataset", lambda: _dataset(dataset)),
        _guarded("flower", _flower),
    ]


def refuse_failures(findings: list[Finding]) -> None:
    """Raises UserError with every failure's words."""
    failed = [f"{finding.what}: {finding.words}" for finding in findings if finding.verdict == "failed"]
    if failed:
        raise UserError("; ".join(failed))


def _guarded(what: str, look: Callable[[], Finding]) -> Finding:
    try:
        return look()
    except (OSError, ValueError, UserError) as error:
        return Finding(what, "failed", str(error))


def _certificate(what: str, path: Path) -> Finding:
    days = days_left(path)
    if days < 0:
        return Finding(
            what, "failed", f"{path.name} ended {-days:.0f} days ago; `bench fed renew` makes a new one of the server's"
        )
    if not is_valid_yet(path):
        return Finding(what, "failed", f"{path.name} begins in the future; this machine's clock is behind")
    verdict = "warning" if days < _SOON_DAYS else "ok"
    return Finding(what, verdict, f"valid for {days:.0f} more days")


def _free_port(port: int) -> Finding:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return Finding("port", "failed", f"another program listens on {port}; stop it or choose another port")
    return Finding("port", "ok", f"{port} is free")


def _site_keys(made: Consortium) -> Finding:
    missing = [name for name in made.sites if not (made.server / "sites" / f"{name}.pub").is_file()]
    if missing:
        return Finding("sites", "warning", f"no key of {', '.join(missing)}: they will be refused")
    return Finding("sites", "ok", f"{len(made.sites)} keys")


def _flower() -> Finding:
    import flwr

    known = flwr.__version__.startswith(("1.41.", "1.42."))
    words = flwr.__version__ if known else f"{flwr.__version__} is not 1.41 or 1.42; pip install 'flwr>=1.41,<1.43'"
    return Finding("flower", "ok" if known else "failed", words)


def _version(site: Site) -> Finding:
    if site.version != bench.__version__:
        words = f"this folder is of version {site.version}, installed is {bench.__version__}; install one everywhere"
        return Finding("version", "failed", words)
    return Finding("version", "ok", bench.__version__)


def _private_key(path: Path) -> Finding:
    if not path.is_file():
        return Finding("key", "failed", f"{path} is not there; ask the server's operator for this site's folder")
    if path.stat().st_mode & 0o077:
        return Finding("key", "warning", f"others can read {path}; chmod 600 {path}")
    return Finding("key", "ok", "readable by its owner only")


def _reachable(site: Site, waits: bool) -> Finding:
    place = f"{site.host}:{site.port}"
    try:
        _handshake(site).close()
    except ssl.SSLCertVerificationError as error:
        if "expired" in error.verify_message:
            words = f"{place}'s certificate has ended by this machine's clock"
            return Finding("server", "failed", f"{words}; the server's operator makes a new one: `bench fed renew`")
        words = f"{place} shows a certificate that ca.crt does not vouch for ({error.verify_message})"
        return Finding("server", "failed", f"{words}; is a proxy breaking TLS open, or is the folder another's?")
    except ssl.SSLError as error:
        return Finding("server", "failed", f"{place} speaks no TLS ({error.reason}); is it the right port?")
    except OSError as error:
        verdict = "warning" if waits else "failed"
        return Finding("server", verdict, f"{place} cannot be reached ({error}); ask for outgoing TCP to it")
    return Finding("server", "ok", f"{place} answers with the consortium's certificate")


def _clock(site: Site, waits: bool) -> Finding:
    """Compare with the Date header of whatever answers; authentication fails when clocks are apart."""
    try:
        opened = _handshake(site)
    except OSError:
        return Finding("clock", "warning" if waits else "failed", "the server cannot be asked for the time")
    with opened as connection:
        connection.sendall(f"HEAD / HTTP/1.1\r\nHost: {site.host}\r\nConnection: close\r\n\r\n".encode())
        head = connection.recv(4096).decode(errors="replace")
    dates = [line.partition(":")[2].strip() for line in head.splitlines() if line.lower().startswith("date:")]
    if not dates:
        return Finding("clock", "warning", "the server tells no time to compare with")
    apart = abs(time.time() - parsedate_to_datetime(dates[0]).timestamp())
    if apart > _CLOCK_SECONDS:
        return Finding("clock", "failed", f"this clock and the server's are {apart:.0f} s apart; switch on NTP")
    return Finding("clock", "ok", f"within {apart:.0f} s of the server's")


def _membership(site: Site) -> Finding:
    """Ask the server; whether another program holds the key's place is told, and the site may wait for it."""
    from federated.deployment.membership import ask, sentence

    answer = ask(site)
    verdict = {"taken": "ok", "refused": "warning", "away": "warning"}.get(answer, "failed")
    return Finding("membership", verdict, sentence(site, answer))


def _dataset(name: str) -> Finding:
    from bench.data.registry import DATASETS, available

    DATASETS.get(name)
    if name not in available():
        return Finding("dataset", "failed", f"{name} is not available; `bench data show {name}` says how to bring it")
    return Finding("dataset", "ok", f"{name} is available")


def _handshake(site: Site) -> ssl.SSLSocket:
    authority = site.folder / "ca.crt"
    context = ssl.create_default_context(cadata=read_bytes(authority, "ask for this site's folder again").decode())
    raw = socket.create_connection((site.host, site.port), timeout=_TIMEOUT)
    try:
        return context.wrap_socket(raw, server_hostname=site.host)
    except OSError:
        raw.close()
        raise
