"""Named places where a fault can be injected, to prove that nothing is lost there.

Off unless `AIAGENT_FAILPOINT` is set when the process starts; then a `hit` costs one look-up.
Grammar: `name:count*action->count*action;name:…`; actions: `off`, `error`, `kill`,
`delay(seconds)`, `jump(seconds)`. The last term goes on for ever when its count is left out. `NAMES` lists them all.
"""

from __future__ import annotations

import os
import re
import signal
import time
from dataclasses import dataclass

from aiagent_coordinator import clock
from aiagent_coordinator.errors import ConfigError

VARIABLE = "AIAGENT_FAILPOINT"

#: Stages of a run, as the coordinator drives them.
_STAGES = (
    "claim",
    "prepare",
    "launch",
    "watch",
    "exit",
    "seal",
    "verify",
    "collect",
    "result",
    "clean",
)
#: Where a fault can be put: name → what has just happened there.
NAMES: dict[str, str] = {
    "loop.pass": "A pass of the loop has begun; the server was not asked.",
    "intent.folder": "The run's folder and token exist; the intent is not journaled.",
    "intent.journaled": "The intent is journaled; nobody was asked.",
    "claim.answered": "The server claimed the run; the answer is not journaled.",
    "launch.held": "The shim holds its lock; the server does not know it.",
    "launch.told": "The server knows the shim; the gate is shut.",
    "launch.gone": "The gate is open; the journal does not say so.",
    "outbox.queued": "A report is journaled and not sent.",
    "outbox.answered": "The server took a report; the answer is not journaled.",
    "seal.committed": "The commit is made; the journal does not say so.",
    "verify.checked": "A check has ended; the journal does not say so.",
    "tool.begun": "The server has a call and has done nothing for it.",
    "tool.done": "The effect of a call is committed; nobody has the answer.",
    **{f"stage.{stage}.begin": f"A run is about to enter {stage}." for stage in _STAGES},
    **{f"stage.{stage}.end": f"{stage} is done and not journaled." for stage in _STAGES},
}

_TERM = re.compile(r"(?:(\d+)\*)?(?:(off|error|kill)|(delay|jump)\((-?\d+(?:\.\d+)?)\))\Z")


class InjectedFaultError(Exception):
    """A fault was injected here on purpose: an error that nobody expects."""


@dataclass
class _Term:
    """An action and how often it is still to be done; None: for ever."""

    action: str
    left: int | None
    seconds: float = 0.0


def parse(text: str) -> dict[str, list[_Term]]:
    """Read the variable's text.

    Raises:
        ConfigError: it is not of the grammar, or names an unknown place.
    """
    found: dict[str, list[_Term]] = {}
    for part in filter(None, (piece.strip() for piece in text.split(";"))):
        name, _, terms = part.partition(":")
        # `tool.done/report_completed` is the same place for one tool alone
        if name.partition("/")[0] not in NAMES:
            raise ConfigError(f"{VARIABLE}: unknown place {name!r}")
        found[name] = [_parse_term(term) for term in terms.split("->")]
    return found


def _parse_term(text: str) -> _Term:
    match = _TERM.match(text.strip())
    if match is None:
        known = "off|error|kill|delay(seconds)|jump(seconds)"
        raise ConfigError(f"{VARIABLE}: {text!r} is not [count*]{known}")
    count, plain, timed, seconds = match.groups()
    left = int(count) if count else None
    return _Term(plain or timed, left, float(seconds or 0))


_active = parse(os.environ.get(VARIABLE, ""))


def hit(name: str, detail: str = "") -> None:
    """Stand at a place: nothing happens unless a fault was asked for here.

    Args:
        name: One of `NAMES`.
        detail: A narrower name; faults may be asked for `name` or for `name/detail`.

    Raises:
        InjectedFaultError: the fault asked for is an error.
    """
    if not _active:
        return
    for key in (name, f"{name}/{detail}"):
        terms = _active.get(key)
        while terms and terms[0].left == 0:
            terms.pop(0)
        if not terms:
            continue
        term = terms[0]
        if term.left is not None:
            term.left -= 1
        _do(term, key)


def _do(term: _Term, key: str) -> None:
    match term.action:
        case "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        case "error":
            raise InjectedFaultError(f"injected at {key}")
        case "delay":
            time.sleep(max(0.0, term.seconds))
        case "jump":
            clock.jump(term.seconds)
        case _:
            return
