"""What the coordinator writes into its journal and asks of it: units of work for `Journal.write` and `.read`."""

from __future__ import annotations

import sqlite3

from aiagent_coordinator.pipeline.run import RunRecord, Stage

#: How long the outbox keeps a row after the server took it, for questions asked later.
OUTBOX_KEEP_HOURS = 24


def next_epoch(connection: sqlite3.Connection, floor: int = 1) -> int:
    """Begin a new life: count up, at least to `floor`; return the number that fences earlier lives."""
    row = connection.execute("SELECT value FROM meta WHERE key = 'epoch'").fetchone()
    epoch = max(int(row[0]) + 1 if row else 1, floor)
    connection.execute(
        "INSERT INTO meta VALUES ('epoch', ?) ON CONFLICT (key) DO UPDATE SET value = excluded.value",
        (str(epoch),),
    )
    return epoch


def save_record(connection: sqlite3.Connection, record: RunRecord, now: str) -> None:
    """Write a run as it is now: the stage before it ended, the one it is at begins."""
    connection.execute(
        "INSERT INTO run VALUES (?, ?, ?, ?, ?, ?, ?)"
        " ON CONFLICT (run_id) DO UPDATE SET stage = excluded.stage, record = excluded.record",
        (
            record.run_id,
            record.agent_id,
            record.project_id,
            record.purpose,
            record.slot,
            record.stage,
            record.to_json(),
        ),
    )
    connection.execute(
        "UPDATE stage SET ended_at = ? WHERE run_id = ? AND stage <> ? AND ended_at IS NULL",
        (now, record.run_id, record.stage),
    )
    if record.stage is not Stage.DONE:
        connection.execute(
            "INSERT OR IGNORE INTO stage VALUES (?, ?, ?, NULL)", (record.run_id, record.stage, now)
        )


def forget_run(connection: sqlite3.Connection, run_id: str) -> None:
    """Drop an intent that came to nothing: the server said there was no work for it."""
    connection.execute("DELETE FROM run WHERE run_id = ?", (run_id,))
    connection.execute("DELETE FROM stage WHERE run_id = ?", (run_id,))
    connection.execute("DELETE FROM outbox WHERE run_id = ?", (run_id,))


def live_records(connection: sqlite3.Connection) -> list[RunRecord]:
    """Every run that is not done, oldest first."""
    rows = connection.execute("SELECT record FROM run WHERE stage <> 'done' ORDER BY run_id")
    return [RunRecord.from_json(row[0]) for row in rows.fetchall()]


def known_runs(connection: sqlite3.Connection) -> set[str]:
    """The ids of all runs the journal knows, done or not."""
    return {row[0] for row in connection.execute("SELECT run_id FROM run").fetchall()}


def enqueue_report(
    connection: sqlite3.Connection, run_id: str, seq: int, tool: str, arguments: str
) -> tuple[str, str | None]:
    """Put a report into the outbox once; return what stands there: its arguments and its answer.

    A report that was written in an earlier life stays as it was written then.
    """
    connection.execute(
        "INSERT OR IGNORE INTO outbox (run_id, seq, tool, arguments) VALUES (?, ?, ?, ?)",
        (run_id, seq, tool, arguments),
    )
    row = connection.execute(
        "SELECT arguments, answer FROM outbox WHERE run_id = ? AND seq = ?", (run_id, seq)
    ).fetchone()
    return row[0], row[1]


def ack_report(
    connection: sqlite3.Connection, run_id: str, seq: int, answer: str, now: str
) -> None:
    """Keep the server's answer to a report."""
    connection.execute(
        "UPDATE outbox SET answer = ?, acked_at = ? WHERE run_id = ? AND seq = ?",
        (answer, now, run_id, seq),
    )


def prune(connection: sqlite3.Connection, before: str) -> int:
    """Drop what is done and was acknowledged before the given instant; return how many runs went."""
    connection.execute("DELETE FROM outbox WHERE acked_at < ?", (before,))
    old = connection.execute(
        "SELECT run_id FROM run WHERE stage = 'done' AND run_id NOT IN (SELECT run_id FROM outbox)"
    ).fetchall()
    for (run_id,) in old:
        forget_run(connection, run_id)
    return len(old)
