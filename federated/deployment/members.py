"""Who may take part: keys made known to the server and taken from it, a new certificate, the server's log in words."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

from bench.core.atomic import write_bytes, write_json
from bench.core.errors import UserError
from bench.core.schema import read_json
from federated.deployment.consortium import CELL, Consortium, hosts_of
from federated.deployment.keys import Authority, write_secret
from federated.deployment.programs import flwr, json_in, last_line

_NODES, _REVOKED = "nodes.json", ".revoked"
_ACTIVATION = re.compile(r"/v1/fleet/activate-node\]\[ApiError:\d+\]")
_UNSIGNED = re.compile(r'"POST (/v1/fleet/\S+) HTTP/[\d.]+" 401')
_OTHER_VERSION = re.compile(r"(?i)incompatible.*version|version.*incompatible")


def register(made: Consortium) -> None:
    """Make every site's public key known; one that is known already stays. Raises UserError for a refusal."""
    nodes = _nodes(made)
    for name in made.sites:
        key = _public_key(made, name)
        if not key.is_file():
            continue
        done = flwr(made, "supernode", "register", str(key), CELL, "--format", "json")
        text, answer = done.stdout + done.stderr, json_in(done.stdout)
        if answer.get("node-id"):
            nodes[name] = str(answer["node-id"])
        elif "already" not in text.lower():
            raise UserError(f"the server did not take the key of {name}: {last_line(text)}")
    write_json(made.home / _NODES, nodes)


def revoke(made: Consortium, name: str) -> bool:
    """Take a site's key off the list and, where the server runs, out of it at once; its SuperNode ends within a minute.

    Returns:
        whether a running server was told.

    Raises:
        UserError: no such site.
    """
    if name not in made.sites:
        raise UserError(f"{made.name} has no site {name!r}; its sites are {', '.join(made.sites)}")
    key, node = _public_key(made, name), _nodes(made).get(name)
    if key.is_file():
        os.replace(key, key.with_name(key.name + _REVOKED))
    if node is None:
        return False
    return flwr(made, "supernode", "unregister", node, CELL).returncode == 0


def renew(made: Consortium) -> None:
    """Give the server a new certificate and key by the consortium's authority; sites keep their folders.

    Raises:
        UserError: the authority's key is not here.
    """
    authority = Authority.open(made.folder / "authority")
    certificate, key = authority.server_certificate(hosts_of(made))
    fresh = made.server / "server.key.new"
    fresh.unlink(missing_ok=True)
    write_secret(fresh, key)
    os.replace(fresh, made.server / "server.key")
    write_bytes(made.server / "server.crt", certificate)


class Explained:
    """The SuperLink's own lines, with a sentence behind those that tell of a refused site; now and then.

    Args:
        quiet: how many lines must pass before a sentence is said again.
    """

    def __init__(self, made: Consortium, quiet: int = 200) -> None:
        self._made, self._quiet = made, quiet
        self._said: dict[str, int] = {}
        self._lines = 0

    def __call__(self, line: str) -> Iterator[str]:
        """The line, and what it means."""
        self._lines += 1
        yield line
        words = self._meaning(line)
        if words and self._lines - self._said.get(words, -self._quiet) >= self._quiet:
            self._said[words] = self._lines
            yield f"bench: {words}"

    def _meaning(self, line: str) -> str:
        if _ACTIVATION.search(line):
            if "could not be activated" in line:
                return "a registered site came in while it still counts as connected; it is let in within a minute"
            return "a site was refused: its key is not registered here or was revoked; server/sites has those that are"
        if _UNSIGNED.search(line):
            return "a site was refused: its key was revoked, or its clock and this one are more than five minutes apart"
        if _OTHER_VERSION.search(line):
            return "a site was refused: it has another version of flwr; install one everywhere"
        return ""


def _public_key(made: Consortium, name: str) -> Path:
    return made.server / "sites" / f"{name}.pub"


def _nodes(made: Consortium) -> dict[str, str]:
    path = made.home / _NODES
    return dict(read_json(path, dict[str, str], "remove it and start the server again")) if path.is_file() else {}
