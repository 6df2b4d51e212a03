"""What the configuration says of accounts, fallbacks, waits, budgets and prices, as the board keeps it."""

from __future__ import annotations

import hashlib
import json
from typing import Final

from sqlalchemy import insert, literal_column, select, update

from aiagent_coordinator.quota import ProviderTerms, Terms
from aiagent_coordinator.store import ledger
from aiagent_coordinator.store.quota_tables import quota_terms
from aiagent_coordinator.store.requests import from_wire, to_wire
from aiagent_coordinator.store.unit import Unit

_NAME: Final = "file"
_HERE = quota_terms.c.name == literal_column(f"'{_NAME}'")
_DIGEST = select(quota_terms.c.digest).where(_HERE)
_DOCUMENT = select(quota_terms.c.document).where(_HERE)
_LOCK = select(quota_terms.c.name).where(_HERE).with_for_update()
#: Reasons that may have gone away with what somebody set differently.
_SETTLED: Final = frozenset({"auth", "billing", "model_unavailable"})

_NOTHING: Final = Terms()
#: The last that were read: reading them anew costs more than asking whether they are the same.
_read: dict[str, Terms] = {}


def declare(unit: Unit, terms: Terms) -> None:
    """Keep what the configuration says. What a changed provider could not do before is tried again."""
    document = to_wire(terms)
    digest = hashlib.sha256(json.dumps(document, sort_keys=True).encode()).hexdigest()
    known = unit.conn.scalar(_DIGEST)
    if known == digest:
        return
    before = current(unit)
    row = {"name": _NAME, "digest": digest, "document": document, "updated_at": unit.now}
    change = insert(quota_terms) if known is None else update(quota_terms).where(_HERE)
    unit.conn.execute(change.values(row))
    unit.emit("quota.declared", actor="configuration")
    if known is None:
        return
    for name in {*before.providers, *terms.providers}:
        was = before.providers.get(name, ProviderTerms()).digest
        if was != terms.providers.get(name, ProviderTerms()).digest:
            ledger.clear(unit, provider=name, reasons=_SETTLED, actor="configuration")


def current(unit: Unit) -> Terms:
    """What is in force."""
    digest = unit.conn.scalar(_DIGEST)
    if digest is None:
        return _NOTHING
    known = _read.get(digest)
    if known is None:
        known = from_wire(Terms, unit.conn.scalar(_DOCUMENT))
        _read.clear()
        _read[digest] = known
    return known


def lock(unit: Unit) -> None:
    """Let nobody else count what is left of a budget until this unit ends."""
    unit.conn.execute(_LOCK)
