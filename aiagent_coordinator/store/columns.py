"""What columns hold, alike on SQLite and PostgreSQL: instants, ids, documents."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import JSON, BigInteger, DateTime, Dialect, Integer, Text
from sqlalchemy.types import TypeDecorator, TypeEngine

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


class Instant(TypeDecorator[datetime]):
    """A point in time, UTC: `timestamptz`, or microseconds since 1970 where there is no such type.

    An integer sorts, compares and never loses its zone.
    """

    impl = BigInteger
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        """Choose the column's type."""
        if dialect.name == "postgresql":
            return dialect.type_descriptor(DateTime(timezone=True))
        return dialect.type_descriptor(BigInteger())

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> object:
        """Give the database what it keeps; an instant without a zone is a programming error."""
        if value is None:
            return None
        if value.tzinfo is None:
            message = "an instant needs its zone"
            raise ValueError(message)
        return value if dialect.name == "postgresql" else (value - _EPOCH) // _MICROSECOND

    def process_result_value(
        self,
        value: Any,  # noqa: ANN401 - the driver decides
        dialect: Dialect,
    ) -> datetime | None:
        """Read it back in UTC."""
        if value is None:
            return None
        if dialect.name == "postgresql":
            return value.astimezone(UTC)
        return _EPOCH + value * _MICROSECOND


class Document(TypeDecorator[Any]):
    """A JSON value: `jsonb` where there is such a type. Read and written whole."""

    impl = JSON
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        """Choose the column's type; PostgreSQL's part of the library is loaded for it alone."""
        if dialect.name != "postgresql":
            return dialect.type_descriptor(JSON(none_as_null=True))
        from sqlalchemy.dialects.postgresql import JSONB  # noqa: PLC0415 - see above

        return dialect.type_descriptor(JSONB(none_as_null=True))


#: Ids sort by bytes everywhere, whatever the database's own collation is.
ID = Text().with_variant(Text(collation="C"), "postgresql")
#: A missing value is SQL NULL, never JSON null.
DOCUMENT = Document(none_as_null=True)
#: SQLite's own row number only under its exact name INTEGER.
SEQUENCE = BigInteger().with_variant(Integer, "sqlite")
