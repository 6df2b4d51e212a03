"""Passkeys of agents: kept salted and hashed, never as they are."""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections.abc import Mapping
from typing import Final

from sqlalchemy import select, update

from aiagent_coordinator.store import tables
from aiagent_coordinator.store.unit import Unit

_agent = tables.agent

#: Work of one hash: 16 MiB and some 30 ms, so that guessing is slow and a start is not.
_N: Final = 2**14
_R: Final = 8
_P: Final = 1
_SALT_BYTES: Final = 16
_HASH_BYTES: Final = 32


def hash_of(passkey: str) -> str:
    """Hash a passkey with a salt of its own: `scrypt$N$r$p$SALT$HASH`, in hex. Blocks for 30 ms."""
    salt = secrets.token_bytes(_SALT_BYTES)
    return f"scrypt${_N}${_R}${_P}${salt.hex()}${_scrypt(passkey, salt, _N, _R, _P).hex()}"


def matches(passkey: str, stored: str | None) -> bool:
    """Whether this is the passkey. Without one it takes as long, and is not. Blocks for 30 ms."""
    _, n, r, p, salt, expected = (stored or _NONE).split("$")
    found = _scrypt(passkey, bytes.fromhex(salt), int(n), int(r), int(p))
    return hmac.compare_digest(found, bytes.fromhex(expected)) and stored is not None


_NONE: Final = f"scrypt${_N}${_R}${_P}${'00' * _SALT_BYTES}${'00' * _HASH_BYTES}"


def _scrypt(passkey: str, salt: bytes, n: int, r: int, p: int) -> bytes:
    return hashlib.scrypt(
        passkey.encode("utf-8", "surrogatepass"), salt=salt, n=n, r=r, p=p, dklen=_HASH_BYTES
    )


def changes(
    wanted: Mapping[str, str | None], kept: Mapping[str, str | None]
) -> dict[str, str | None]:
    """The hashes to keep so that these passkeys are in force; what is right already is left out.

    Args:
        wanted: Agent → its passkey, or None for no passkey.
        kept: Agent → its hash, as `hashes` gave them.
    """
    found: dict[str, str | None] = {}
    for agent_id, passkey in wanted.items():
        stored = kept.get(agent_id)
        if passkey is None and stored is not None:
            found[agent_id] = None
        elif passkey is not None and (stored is None or not matches(passkey, stored)):
            found[agent_id] = hash_of(passkey)
    return found


def hashes(unit: Unit) -> dict[str, str | None]:
    """The hash of every agent; None: it has no passkey."""
    rows = unit.conn.execute(select(_agent.c.id, _agent.c.passkey_hash)).all()
    return {str(agent_id): hashed for agent_id, hashed in rows}


def hash_for(unit: Unit, agent_id: str) -> str | None:
    """The hash of one agent that may work; None: there is none."""
    query = select(_agent.c.passkey_hash).where(
        _agent.c.id == agent_id, _agent.c.enabled.is_(True), _agent.c.declared.is_(True)
    )
    return unit.conn.scalar(query)


def keep(unit: Unit, agent_id: str, hashed: str | None) -> None:
    """Give an agent another passkey, or none."""
    unit.conn.execute(
        update(_agent)
        .where(_agent.c.id == agent_id)
        .values(passkey_hash=hashed, updated_at=unit.now)
    )
    unit.emit("agent.changed", actor="configuration", agent_id=agent_id)
