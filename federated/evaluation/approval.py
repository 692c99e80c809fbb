"""A site's consent to one request: a file that its administrator signs, and that is checked before anything runs."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from typing_extensions import TypedDict

from bench.core.atomic import write_bytes, write_json
from bench.core.errors import UserError
from bench.core.identity import canonical
from bench.core.schema import read_bytes, read_json
from federated.deployment.consortium import Site
from federated.deployment.keys import write_secret
from federated.evaluation.request import Request

PRIVATE, PUBLIC, APPROVED = "approval.key", "approval.pub", "approved"
_MEND = "approve the request again"


class Refused(UserError):
    """A site does not answer; the sentence is told to the server, and names no file of the site."""


class _Approval(TypedDict):
    request: str
    site: str
    until: str
    signature: str


def approve(request: Request, site: Site, days: int, key: Path | None = None) -> Path:
    """Sign a request; returns the file that lets the site answer it.

    Args:
        request: what is consented to, to the byte.
        site: whose consent it is.
        days: how long the consent holds.
        key: the administrator's Ed25519 key (PEM), which may be kept on another medium; made at first use. By default
            it lies in the site's folder. Its public half lies there always.

    Raises:
        UserError: a key that is none, or another one than the site's public half belongs to.
    """
    private = _private(key or site.folder / PRIVATE)
    public = private.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    known = site.folder / PUBLIC
    if not known.is_file():
        write_bytes(known, public)
    elif read_bytes(known, _MEND) != public:
        raise UserError(f"{known} belongs to another key; sign with that one, or remove the file to begin anew")
    until = (datetime.now(UTC) + timedelta(days=days)).date().isoformat()
    consent = {"request": request.digest, "site": site.name, "until": until}
    path = site.folder / APPROVED / f"{request.digest}.json"
    write_json(path, {**consent, "signature": private.sign(_signed(consent)).hex()})
    return path


def check(request: Request, folder: Path, today: date | None = None) -> None:
    """Let a request pass that the site of a folder has approved.

    Args:
        request: as it came.
        folder: the site's, with its public key and what it has approved.
        today: for a test of an approval's end; by the clock where none is given.

    Raises:
        Refused: no approval, one that its key did not sign or that is of something else, or one that has ended.
    """
    short = request.digest[:12]
    path = folder / APPROVED / f"{request.digest}.json"
    if not path.is_file():
        raise Refused(f"this site has not approved the request {short}; its administrator runs `bench fed approve`")
    try:
        consent: dict[str, Any] = dict(read_json(path, _Approval, _MEND))
        signature = bytes.fromhex(consent.pop("signature"))
        key = serialization.load_pem_public_key(read_bytes(folder / PUBLIC, _MEND))
        assert isinstance(key, Ed25519PublicKey)
        key.verify(signature, _signed(consent))
        until = date.fromisoformat(consent["until"])
    except (UserError, ValueError, AssertionError, InvalidSignature) as error:
        raise Refused(
            f"this site's approval of the request {short} is not signed with its administrator's key"
        ) from error
    if consent["request"] != request.digest:
        raise Refused(f"this site's approval of the request {short} is of another request")
    if (today or datetime.now(UTC).date()) > until:
        raise Refused(f"this site's approval of the request {short} ended on {until.isoformat()}")


def _signed(consent: dict[str, Any]) -> bytes:
    return canonical(consent).encode()


def _private(path: Path) -> Ed25519PrivateKey:
    if not path.is_file():
        key = Ed25519PrivateKey.generate()
        form = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
        write_secret(path, key.private_bytes(*form, serialization.NoEncryption()))
        return key
    try:
        found = serialization.load_pem_private_key(read_bytes(path, "name the key that was made first"), None)
    except (ValueError, TypeError) as error:
        raise UserError(f"{path} is no Ed25519 key without a passphrase ({error})") from error
    if not isinstance(found, Ed25519PrivateKey):
        raise UserError(f"{path} is no Ed25519 key; `bench fed approve` makes one where there is none")
    return found
