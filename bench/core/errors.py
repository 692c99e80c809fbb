"""The exceptions that are shown without a traceback, because the user can mend their cause."""

from __future__ import annotations


class UserError(Exception):
    """A mistake of the user's: shown as one sentence, exit code 2.

    The message names the thing, says what was expected and what to do.
    """


class UnknownName(UserError):
    """A name that no registry knows; the message offers near matches."""


class DamagedState(UserError):
    """What a fit was to go on from cannot be used: cut off, of another model, or not ours at all."""
