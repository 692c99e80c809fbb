"""A consortium's folder: what the server keeps, what each site is handed, and the words for its administrators."""

from __future__ import annotations

import re
import string
from dataclasses import asdict, dataclass
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Any, TypeVar

from pydantic import Field
from typing_extensions import TypedDict

import bench
from bench.core.atomic import write_bytes, write_text
from bench.core.errors import UserError
from bench.core.schema import read_toml
from federated.deployment.keys import Authority, site_key, write_secret

T = TypeVar("T")
CONSORTIUM, SITE, SERVER = "consortium.toml", "site.toml", "server"
CELL = "consortium"  # the connection's name in Flower's own configuration
_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,62}")
# A host's name by RFC 1123, an IPv4 address included: labels of letters, digits and hyphens.
_LABEL = r"[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
_HOST, _LONGEST_HOST = re.compile(rf"{_LABEL}(?:\.{_LABEL})*\.?"), 253
_Port = Annotated[int, Field(ge=1, le=65535)]


class _ConsortiumFile(TypedDict):
    name: str
    host: str
    port: _Port
    internal_port: _Port
    sites: Annotated[list[str], Field(min_length=2)]


class _SiteFile(TypedDict):
    consortium: str
    name: str
    host: str
    port: _Port
    partition: Annotated[int, Field(ge=0)]
    partitions: Annotated[int, Field(ge=2)]
    version: str


@dataclass(frozen=True)
class Consortium:
    """The server's side; no file of it knows where it lies, so that the folder can be copied anywhere.

    Attributes:
        host: the name or address under which sites reach the server.
        port: the one HTTPS port that sites reach; `internal_port` is the SuperLink's own, behind the proxy. Where they
            are equal there is no proxy, which is for trials on one machine.
        server: the folder of all that the server's machine needs.
    """

    name: str
    host: str
    port: int
    internal_port: int
    sites: tuple[str, ...]
    server: Path

    @property
    def folder(self) -> Path:
        """Where `server`, `sites` and `authority` lie side by side, on the machine on which they were made."""
        return self.server.parent

    @property
    def home(self) -> Path:
        """Flower's own configuration folder (FLWR_HOME)."""
        return self.server / "flower"

    def site(self, name: str) -> Path:
        """What one site is handed."""
        return self.folder / "sites" / name

    @classmethod
    def open(cls, folder: Path) -> Consortium:
        """Read a consortium's folder, or its `server/` alone. Raises UserError when it is none."""
        server = folder if (folder / CONSORTIUM).is_file() else folder / SERVER
        values = _read(server / CONSORTIUM, _ConsortiumFile, "`bench fed init` makes one")
        _check_words(values["name"], values["host"], values["sites"])
        return cls(**{**values, "sites": tuple(values["sites"])}, server=server.resolve())  # type: ignore[arg-type]


@dataclass(frozen=True)
class Site:
    """A site's side: `partition` is its number among `partitions`."""

    consortium: str
    name: str
    host: str
    port: int
    partition: int
    partitions: int
    version: str
    folder: Path

    @classmethod
    def open(cls, folder: Path) -> Site:
        """Read a folder. Raises UserError when it is none."""
        values = _read(folder / SITE, _SiteFile, "the consortium's server hands one to every site")
        _check_words(values["consortium"], values["host"], [values["name"]])
        return cls(**values, folder=folder.resolve())


def create(folder: Path, name: str, host: str, port: int, sites: list[str], internal_port: int = 18443) -> Consortium:
    """Make the folder with fresh keys.

    Args:
        folder: empty, or not there yet.
        name: of the consortium.
        host: the server's name or address, as sites reach it.
        port: for sites.
        sites: their names.
        internal_port: the server's own, on loopback.

    Raises:
        UserError: a name that will not do, fewer than two sites, or a folder that is not empty.
    """
    _check(folder, name, host, sites)
    made = Consortium(name, host, port, internal_port, tuple(sites), folder.resolve() / SERVER)
    authority = Authority.create(name)
    certificate, key = authority.pem()
    write_bytes(folder / "authority" / "ca.crt", certificate)
    write_secret(folder / "authority" / "ca.key", key)
    _write_server(made, authority)
    for number, site in enumerate(sites):
        _write_site(made, number, site, certificate)
    values = {"name": name, "host": host, "port": port, "internal_port": internal_port, "sites": sites}
    write_text(made.server / CONSORTIUM, _toml(values))
    write_text(folder / "README.md", _filled("consortium.md", made, site=sites[0]))
    return made


def write_connection(made: Consortium) -> None:
    """Tell Flower's own programs where the server is; they take absolute paths only, so this is done at each start."""
    address = {"address": f"127.0.0.1:{made.internal_port}", "root-certificates": str(made.server / "ca.crt")}
    text = f'[superlink]\ndefault = "{CELL}"\n\n[superlink.{CELL}]\n{_toml(address)}'
    path = made.home / "config.toml"
    if not path.is_file() or path.read_text() != text:
        write_text(path, text)


def hosts_of(made: Consortium) -> list[str]:
    """What the server's certificate is for."""
    return list(dict.fromkeys([made.host, "localhost", "127.0.0.1"]))


def _write_server(made: Consortium, authority: Authority) -> None:
    certificate, key = authority.server_certificate(hosts_of(made))
    write_bytes(made.server / "server.crt", certificate)
    write_secret(made.server / "server.key", key)
    write_bytes(made.server / "ca.crt", authority.pem()[0])
    for template, name in (
        ("server.service", "bench-fed-server.service"),
        ("server-compose.yaml", "compose.yaml"),
        ("nginx.conf", "nginx.conf"),
        ("Dockerfile", "Dockerfile"),
    ):
        write_text(made.server / name, _filled(template, made))
    write_text(made.server / "app" / "pyproject.toml", _filled("app.toml", made))
    write_text(made.server / "app" / "consortium_app.py", _filled("app.py.txt", made))


def _write_site(made: Consortium, number: int, name: str, certificate: bytes) -> None:
    folder = made.site(name)
    private, public = site_key()
    write_bytes(folder / "ca.crt", certificate)
    write_secret(folder / "site.key", private)
    write_bytes(folder / "site.pub", public)
    write_bytes(made.server / "sites" / f"{name}.pub", public)
    site = Site(made.name, name, made.host, made.port, number, len(made.sites), bench.__version__, folder)
    values = {key: value for key, value in asdict(site).items() if key != "folder"}
    write_text(folder / SITE, _toml(values))
    for template, file in (
        ("site.service", "bench-fed-site.service"),
        ("site-compose.yaml", "compose.yaml"),
        ("administrator.md", "ADMINISTRATOR.md"),
        ("Dockerfile", "Dockerfile"),
    ):
        write_text(folder / file, _filled(template, made, site=name))


def _check(folder: Path, name: str, host: str, sites: list[str]) -> None:
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UserError(f"{folder} is not empty; name a new folder, so that no key is overwritten")
    if len(set(sites)) < max(2, len(sites)):
        raise UserError(f"a consortium has two sites or more with different names, not {', '.join(sites) or 'none'}")
    _check_words(name, host, sites)


def _check_words(name: str, host: str, sites: list[str]) -> None:
    """What enters nginx.conf, service files and certificates is a name and nothing else."""
    for word in (name, *sites):
        if not _NAME.fullmatch(word):
            raise UserError(f"{word!r} will not do as a name: use a-z, 0-9 and hyphens, as hospital-a")
    if len(host) > _LONGEST_HOST or not _HOST.fullmatch(host):
        raise UserError(f"--host takes the bare name or address that sites reach the server by, not {host!r}")


def _filled(template: str, made: Consortium, site: str = "") -> str:
    text = (files("federated.deployment") / "templates" / template).read_text()
    values = {
        "name": made.name,
        "host": made.host,
        "port": made.port,
        "internal_port": made.internal_port,
        "version": bench.__version__,
        "site": site,
        "sites": ", ".join(made.sites),
    }
    return string.Template(text).substitute(values)


def _toml(values: dict[str, Any]) -> str:
    import tomli_w

    return tomli_w.dumps(values)


def _read(path: Path, schema: type[T], hint: str) -> T:
    if not path.is_file():
        raise UserError(f"{path.parent} is no such folder: {path.name} cannot be read; {hint}")
    return read_toml(path, schema, hint)
