"""Whether the server takes a site's key: asked before Flower's SuperNode starts, which ends without saying why.

Flower's client of its fleet interface is not public; this file and two others (see docs/federated.md) use such parts.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import httpx
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from flwr.common.constant import HEARTBEAT_DEFAULT_INTERVAL
from flwr.proto.fleet_pb2 import ActivateNodeRequest, DeactivateNodeRequest
from flwr.supercore.primitives.asymmetric import public_key_to_bytes
from flwr.supernode.fleet_http_client import FleetHttpClient
from flwr.supernode.node_auth_http_interceptor import NodeAuthHttpInterceptor

from bench.core.errors import UserError
from bench.core.schema import MOST_TEXT, check_regular, read_bytes
from federated.deployment.consortium import Site

Answer = Literal["taken", "refused", "clock", "closed", "away"]
_CLOSED = {404, 405}


def ask(site: Site) -> Answer:
    """Enter with the site's key and leave at once.

    Returns:
        `taken`; `refused`: the key is unknown, or another program uses it now; `clock`: the server's clock and this one
        are apart; `closed`: what answers passes no fleet path; `away`: nobody answers, or not yet.

    Raises:
        UserError: the key file is none, or the authority's certificate is no file.
    """
    private = _key(site.folder / "site.key")
    public = private.public_key()
    request = ActivateNodeRequest(public_key=public_key_to_bytes(public), heartbeat_interval=HEARTBEAT_DEFAULT_INTERVAL)
    interceptors = [NodeAuthHttpInterceptor(private, public)]
    address, authority = f"{site.host}:{site.port}", str(site.folder / "ca.crt")
    check_regular(site.folder / "ca.crt", "ask for this site's folder again", MOST_TEXT)
    try:
        with FleetHttpClient.from_server_address(address, False, authority, interceptors=interceptors) as client:
            node = client.ActivateNode(request).node_id
            client.DeactivateNode(DeactivateNodeRequest(node_id=node))
    except httpx.HTTPStatusError as error:
        return _meaning(error.response.status_code)
    except (httpx.TransportError, OSError):
        return "away"
    return "taken"


def _meaning(status: int) -> Answer:
    if status == httpx.codes.UNAUTHORIZED:
        return "clock"
    if status in _CLOSED:
        return "closed"
    return "away" if status in (502, 503, 504) else "refused"


def sentence(site: Site, answer: Answer) -> str:
    """An answer in words that say what to do."""
    place = f"{site.host}:{site.port}"
    return {
        "taken": f"{place} knows this site's key",
        "refused": (
            f"{place} does not take this site's key: it is not registered there or was revoked, or another program "
            f"uses it now; stop that program, or ask the server's operator to register {site.folder.name}/site.pub"
        ),
        "clock": f"{place} refuses this site's signature: this clock and the server's are apart; switch on NTP",
        "closed": f"{place} passes no /v1/fleet/; ask the server's operator for the proxy's configuration",
        "away": f"{place} does not answer",
    }[answer]


def _key(path: Path) -> ec.EllipticCurvePrivateKey:
    try:
        key = serialization.load_ssh_private_key(read_bytes(path, "it is no file of keys"), password=None)
    except (UserError, ValueError) as error:
        raise UserError(f"{path} is no key that can be read ({error}); ask for this site's folder again") from error
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise UserError(f"{path} is a key of another kind; ask for this site's folder again")
    return key
