"""Sessions: what an agent shows on every call when nothing else says who it is."""

from __future__ import annotations

import hashlib
import secrets

from sqlalchemy import bindparam, func, insert, select, update

from aiagent_coordinator.runs import Run, RunPhase
from aiagent_coordinator.store import tables
from aiagent_coordinator.store.rows import run_of
from aiagent_coordinator.store.unit import Unit

_session = tables.session
_run = tables.run
_FIND = (
    select(_run)
    .join(_session, _session.c.run_id == _run.c.id)
    .where(
        _session.c.token_sha256 == bindparam("which"),
        _session.c.ended_at.is_(None),
        _run.c.phase != RunPhase.ENDED,
    )
)


def begin(unit: Unit, run: Run) -> str:
    """Make a session of a live run; the token is shown once and kept nowhere."""
    token = f"sess_{secrets.token_hex(16)}"
    unit.conn.execute(
        insert(_session).values(token_sha256=_hashed(token), run_id=run.id, created_at=unit.now)
    )
    return token


def run_of_session(unit: Unit, token: str) -> Run | None:
    """The live run whose session this is; None when it is over, or never was."""
    row = unit.conn.execute(_FIND, {"which": _hashed(token)}).mappings().first()
    return None if row is None else run_of(row)


def end(unit: Unit, token: str) -> None:
    """End one session; again changes nothing."""
    unit.conn.execute(
        update(_session)
        .where(_session.c.token_sha256 == _hashed(token), _session.c.ended_at.is_(None))
        .values(ended_at=unit.now)
    )


def count_open(unit: Unit, run_id: str) -> int:
    """How many sessions of a run are not ended."""
    query = (
        select(func.count())
        .select_from(_session)
        .where(_session.c.run_id == run_id, _session.c.ended_at.is_(None))
    )
    return unit.conn.scalar(query) or 0


def _hashed(token: str) -> str:
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).hexdigest()
