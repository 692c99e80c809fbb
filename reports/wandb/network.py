"""Whether W&B answers, asked once a run: its own library tries for a minute and a half, cell by cell."""

from __future__ import annotations

import logging
import urllib.error
import urllib.request
from pathlib import Path

_SECONDS = 10.0
log = logging.getLogger(__name__)


def settled_mode(mode: str, run: Path) -> str:
    """The mode in which a run is tracked: `offline` in the place of `online` where the server does not answer.

    That is said in one sentence, with the command that sends the run later. A network that goes away
    afterwards is W&B's own matter: it keeps what it could not send, and tries again.
    """
    if mode != "online":
        return mode
    address = _address()
    reason = _unreachable(address)
    if not reason:
        return mode
    log.warning(
        "W&B at %s does not answer (%s): this run is tracked offline; `wandb sync %s` sends it later",
        address,
        reason,
        run / "wandb" / "offline-run-*",
    )
    return "offline"


def _address() -> str:
    import wandb

    return str(wandb.setup().settings.base_url)


def _unreachable(address: str) -> str:
    """Why no answer came; "" where one came, whatever it says."""
    try:
        urllib.request.urlopen(address, timeout=_SECONDS).close()
    except urllib.error.HTTPError:
        return ""
    except (OSError, ValueError) as error:
        return str(getattr(error, "reason", error))
    return ""
