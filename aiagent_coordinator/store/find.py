"""Finding the one thing a person means: by its id, the beginning of it, or the words of its title."""

from __future__ import annotations

from sqlalchemy import Table, or_, select

from aiagent_coordinator import ids
from aiagent_coordinator.errors import ConflictError, NotFoundError
from aiagent_coordinator.store.unit import Unit

#: Candidates named when a text fits several.
SHOWN = 5
#: One line in lists, branch names and commit messages; no title is longer.
TITLE_CHARS = 500


def find_id(unit: Unit, table: Table, prefix: str, text: str) -> str:
    """The id that is `text`, or the only one that begins with it, its `prefix_` given or not.

    What has titles is also found by its whole title, written as it is or as a slug, also in the
    length that branches have: `mend-the-fence`. Where both fit one thing each, the id counts.

    Raises:
        NotFoundError: nothing fits.
        ConflictError: several do; some are listed.
    """
    found = _by_id(unit, table, prefix, text) if text else []
    if text in found:
        return text
    if len(found) != 1:
        # What is the beginning of many ids may still be the whole title of something.
        found = _by_title(unit, table, text) or found
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


def _by_id(unit: Unit, table: Table, prefix: str, text: str) -> list[str]:
    column = table.c.id
    begins = or_(
        column.startswith(text, autoescape=True),
        column.startswith(f"{prefix}_{text}", autoescape=True),
    )
    query = select(column).where(begins).order_by(column).limit(SHOWN + 1)
    return [str(ident) for ident in unit.conn.scalars(query)]


def _by_title(unit: Unit, table: Table, text: str) -> list[str]:
    """Ids of what is called so, oldest first."""
    wanted = ids.slug(text, TITLE_CHARS)
    if "title" not in table.c or not wanted or len(text) > TITLE_CHARS:
        return []
    rows = unit.conn.execute(select(table.c.id, table.c.title).order_by(table.c.id)).all()
    slugs = [(str(ident), ids.slug(title, TITLE_CHARS)) for ident, title in rows]
    return [ident for ident, slug in slugs if wanted in (slug, ids.slug(slug))]
