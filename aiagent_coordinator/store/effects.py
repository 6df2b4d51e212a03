"""What calls of agents did, so that a call sent again after a restart does it once."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from sqlalchemy import delete, insert, select

from aiagent_coordinator.store import tables
from aiagent_coordinator.store.unit import Unit

_effect = tables.call_effect


@dataclass(frozen=True)
class CallKey:
    """Which call: the run, its bridge's nonce, and the request id as the client wrote it."""

    run_id: str
    nonce: str
    request_id: int | str


@dataclass(frozen=True)
class Effect:
    """What a call did: its answer, or the id of what it made and waits for."""

    kind: str
    id: str | None = None
    answer: dict[str, Any] | None = None


def find_effect(unit: Unit, key: CallKey, params_digest: str) -> Effect | None:
    """What this call did before, if it is the same call; only asked for ids that are sent again."""
    found = unit.conn.execute(
        select(_effect).where(*_is(key), _effect.c.params_digest == params_digest)
    )
    row = found.mappings().first()
    return None if row is None else Effect(row["effect_kind"], row["effect_id"], row["answer"])


def save_effect(unit: Unit, key: CallKey, params_digest: str, effect: Effect) -> None:
    """Keep what a call did, in the transaction that does it; a reused id replaces the older call."""
    unit.conn.execute(delete(_effect).where(*_is(key)))
    unit.conn.execute(
        insert(_effect).values(
            run_id=key.run_id,
            nonce=key.nonce,
            request_id=_text(key.request_id),
            params_digest=params_digest,
            effect_kind=effect.kind,
            effect_id=effect.id,
            answer=effect.answer,
            created_at=unit.now,
        )
    )


def _is(key: CallKey) -> tuple[Any, ...]:
    return (
        _effect.c.run_id == key.run_id,
        _effect.c.nonce == key.nonce,
        _effect.c.request_id == _text(key.request_id),
    )


def _text(request_id: int | str) -> str:
    # As JSON: 7 and "7" are different ids.
    return json.dumps(request_id)
