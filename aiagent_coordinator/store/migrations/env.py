"""How Alembic reaches the database: one transaction over all revisions, on both databases."""

from __future__ import annotations

from alembic import context
from sqlalchemy import create_engine, event, make_url
from sqlalchemy.pool import NullPool

from aiagent_coordinator.store import tables

url = make_url(context.config.attributes["url"])
if url.get_backend_name() == "postgresql":
    url = url.set(drivername="postgresql+psycopg")
engine = create_engine(url, poolclass=NullPool)

if url.get_backend_name() == "sqlite":

    @event.listens_for(engine, "connect")
    def _own_transactions(connection, _record):  # noqa: ANN001, ANN202 - a listener
        connection.isolation_level = None

    @event.listens_for(engine, "begin")
    def _begin(conn):  # noqa: ANN001, ANN202 - a listener
        conn.exec_driver_sql("BEGIN IMMEDIATE")


with engine.connect() as connection:
    context.configure(
        connection=connection, target_metadata=tables.metadata, transactional_ddl=True
    )
    with context.begin_transaction():
        context.run_migrations()
