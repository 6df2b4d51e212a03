"""Identifiers: how they are made, recognised and turned into path-safe names.

An id is `<prefix>_<26 lower-case Crockford base32>`, time first, so that ids sort by age.
People may choose the ids of projects and agents; see `CHOSEN_ID`.
"""

from __future__ import annotations

import hashlib
import re
import secrets
import unicodedata
from typing import NewType

from aiagent_coordinator.clock import wall_seconds

TaskId = NewType("TaskId", str)
RunId = NewType("RunId", str)
AgentId = NewType("AgentId", str)
ProjectId = NewType("ProjectId", str)

_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"
#: Prefixes in use: task, project, agent, run, question, notice, message, conversation, delegation, skill,
#: hand-off, audit, one time that an audit fired, event, artifact, session, coordinator, message to a task's agent.
PREFIXES = frozenset(
    {
        *("tsk", "prj", "agt", "run", "qst", "ntf", "msg", "cnv", "dlg", "skl", "hnd"),
        *("aud", "fir", "evt", "art", "ses", "crd", "tel"),
    }
)
#: What people may choose as the id of a project or an agent.
CHOSEN_ID = re.compile(r"[a-z0-9][a-z0-9._-]{0,62}\Z")
GENERATED_ID = re.compile(r"(?P<prefix>[a-z]{3})_[0-9a-hjkmnp-tv-z]{26}\Z")
#: What stands nowhere in the name of a branch.
_NO_BRANCH = re.compile(r"[\x00-\x20\x7f~^:?*\[\\]|\.\.|@\{")
#: Longest slug taken from a title; branch names stay readable and far below git's limits.
SLUG_CHARS = 40


def new_id(prefix: str) -> str:
    """Make a new id: 48 bits of milliseconds, then 80 random bits, in 26 characters.

    Ids made in the same millisecond do not sort by age.
    """
    if prefix not in PREFIXES:
        message = f"unknown id prefix {prefix!r}"
        raise ValueError(message)
    value = (int(wall_seconds() * 1000) << 80) | secrets.randbits(80)
    return f"{prefix}_" + "".join(_ALPHABET[value >> shift & 31] for shift in range(125, -1, -5))


def new_run_id() -> RunId:
    """Make the id of a run; the coordinator makes it before it asks for the claim."""
    return RunId(new_id("run"))


def slug(text: str, limit: int = SLUG_CHARS) -> str:
    """Turn free text into `[a-z0-9-]` of at most `limit` characters; may be empty."""
    ascii_text = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode("ascii")
    return re.sub(r"[^a-z0-9]+", "-", ascii_text.lower()).strip("-")[:limit].strip("-")


def is_branch_name(name: str) -> bool:
    """Whether git takes this as the name of a branch: the rules of `git check-ref-format --branch`."""
    parts = name.split("/")
    return (
        not _NO_BRANCH.search(name)
        and not name.startswith("-")
        and not name.endswith(".")
        and name not in {"@", "HEAD"}
        and not any(part[:1] in {"", "."} or part.endswith(".lock") for part in parts)
    )


def path_name(identifier: str) -> str:
    """Give an id the form it has as a path, branch, label or lock.

    Generated and chosen ids stay as they are; anything else becomes `<slug>-<8 hex>`, so that two
    different ids never share a name and no name leaves its folder.
    """
    safe = GENERATED_ID.match(identifier) or CHOSEN_ID.match(identifier)
    # git refuses `..` anywhere and names that end in `.lock` or `.`
    if safe and ".." not in identifier and not identifier.endswith((".lock", ".")):
        return identifier
    digest = hashlib.sha256(identifier.encode("utf-8", "surrogatepass")).hexdigest()[:8]
    return f"{slug(identifier)}-{digest}".lstrip("-")
