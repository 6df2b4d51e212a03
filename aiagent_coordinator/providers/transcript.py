"""What the output of a run says as a whole. Pure.

Only what a program states of itself is told, never what a model wrote.
"""

from __future__ import annotations

from collections.abc import Iterable

from aiagent_coordinator.providers.dialects import read_all
from aiagent_coordinator.providers.digest import Digest
from aiagent_coordinator.providers.usage import Usage


def digest_of(dialect: str, pieces: Iterable[bytes]) -> Digest:
    """Fold output that is complete; its first line may be cut, and its last needs no end.

    Args:
        dialect: One of `events.DIALECTS`.
        pieces: Its bytes in order, cut anywhere.
    """
    digest = Digest()
    for event in read_all(dialect, pieces):
        digest.take(event)
    return digest


def error_texts(dialect: str, out: bytes) -> list[str]:
    """The errors that a program states in its output and did not get over, oldest first.

    Args:
        dialect: One of `events.DIALECTS`.
        out: The end of its standard output; a first line cut in two is skipped.
    """
    return [fault.text for fault in digest_of(dialect, (out,)).faults]


def session_id(dialect: str, out: bytes) -> str | None:
    """What a program calls its session, to go on with later; None when it does not say.

    Args:
        dialect: One of `events.DIALECTS`.
        out: The beginning of its standard output.
    """
    return digest_of(dialect, (out,)).session_id


def usage_of(dialect: str, out: Iterable[bytes]) -> Usage | None:
    """What a run used; None where it does not say.

    Args:
        dialect: One of `events.DIALECTS`.
        out: Its standard output in order, cut anywhere.
    """
    return digest_of(dialect, out).usage
