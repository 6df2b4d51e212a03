"""Tables of what may be used: what the configuration says, and the limits that were reached."""

from __future__ import annotations

from sqlalchemy import CheckConstraint, Column, Float, Integer, Table, Text

from aiagent_coordinator.store.columns import DOCUMENT, ID, Instant
from aiagent_coordinator.store.tell_tables import metadata

# What the configuration says of accounts, fallbacks, budgets and prices; one row.
quota_terms = Table(
    "quota_terms",
    metadata,
    Column("name", ID, primary_key=True),
    Column("digest", Text, nullable=False),
    Column("document", DOCUMENT, nullable=False),
    Column("updated_at", Instant, nullable=False),
)

limit_window = Table(
    "limit_window",
    metadata,
    Column("provider", ID, primary_key=True),
    Column("account", ID, primary_key=True),
    # Empty: all models of the account.
    Column("model", ID, primary_key=True),
    # Empty: it was not named.
    Column("period", ID, primary_key=True),
    # `rejected`: nothing starts there until `until`, or without one until somebody says so.
    Column("status", Text, nullable=False),
    # Of the run that was refused; NULL: only how much is used is known.
    Column("reason", Text),
    # 0 to 1.
    Column("used", Float),
    Column("resets_at", Instant),
    Column("until", Instant),
    Column("confidence", Text, nullable=False),
    Column("text", Text),
    Column("run_id", ID),
    # How often in a row nobody knew when it would be over.
    Column("failures", Integer, nullable=False, server_default="0"),
    # When a person let it wait although it is long.
    Column("accepted_at", Instant),
    Column("seen_at", Instant, nullable=False),
    CheckConstraint("status IN ('allowed', 'warning', 'rejected')", name="status"),
)
