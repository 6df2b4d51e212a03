"""Lists in parts: by age and id, so that pages join without gap or overlap whatever is added meanwhile."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Select, Table, select, tuple_

from aiagent_coordinator.errors import NotFoundError
from aiagent_coordinator.store.unit import Unit


def page_of(
    unit: Unit,
    query: Select[Any],
    table: Table,
    *,
    limit: int,
    after: str | None,
    newest: bool = False,
) -> Select[Any]:
    """Take one page of what a query finds.

    Args:
        unit: The unit of work.
        query: What is listed; not yet ordered.
        table: What it selects from; has `created_at` and `id`.
        limit: Rows, at most.
        after: The last id of the page before; None for the first page.
        newest: Begin at the newest and go back, instead of at the oldest.

    Raises:
        NotFoundError: there is no `after`.
    """
    age, ident = table.c.created_at, table.c.id
    order = (age.desc(), ident.desc()) if newest else (age, ident)
    query = query.order_by(*order).limit(limit)
    if after is None:
        return query
    last = unit.conn.execute(select(age).where(ident == after)).first()
    if last is None:
        raise NotFoundError(f"there is no {table.name} {after}")
    place, edge = tuple_(age, ident), tuple_(last[0], after, types=[age.type, ident.type])
    return query.where(place < edge if newest else place > edge)
