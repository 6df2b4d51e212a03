"""Finding the one thing a person means by the beginning of its id."""

from __future__ import annotations

from sqlalchemy import Table, or_, select

from aiagent_coordinator.errors import ConflictError, NotFoundError
from aiagent_coordinator.store.unit import Unit

#: Candidates named when a beginning fits several.
SHOWN = 5


def find_id(unit: Unit, table: Table, prefix: str, text: str) -> str:
    """The id that is `text`, or the only one that begins with it, its `prefix_` given or not.

    Raises:
        NotFoundError: none begins so.
        ConflictError: several do; some are listed.
    """
    column = table.c.id
    begins = or_(
        column.startswith(text, autoescape=True),
        column.startswith(f"{prefix}_{text}", autoescape=True),
    )
    query = select(column).where(begins).order_by(column).limit(SHOWN + 1)
    found = [str(ident) for ident in unit.conn.scalars(query)] if text else []
    if text in found:
        return text
    if not found:
        raise NotFoundError(f"there is no {table.name} {text!r}")
    if len(found) > 1:
        more = " …" if len(found) > SHOWN else ""
        raise ConflictError(
            f"{text!r} fits several: {', '.join(found[:SHOWN])}{more}",
            hint="type more of the id",
            candidates=found[:SHOWN],
        )
    return found[0]
