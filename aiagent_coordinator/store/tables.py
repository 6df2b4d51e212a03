"""The one schema: tables over SQLite and PostgreSQL, and what their columns hold. No queries."""

from __future__ import annotations

from enum import StrEnum

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    Float,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    Text,
    false,
    text,
)

from aiagent_coordinator.chats import Author, NoticeKind
from aiagent_coordinator.runs import Purpose, RunOutcome, RunPhase, Verification
from aiagent_coordinator.store.columns import DOCUMENT, ID, SEQUENCE, Instant
from aiagent_coordinator.tasks import (
    Approval,
    TaskKind,
    TaskStatus,
    WaitReason,
    WorkspaceKind,
)

metadata = MetaData(
    naming_convention={
        "pk": "pk_%(table_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
    }
)


def _one_of(column: str, words: type[StrEnum]) -> CheckConstraint:
    """Keep a column to its closed list of words."""
    listed = ", ".join(f"'{word.value}'" for word in words)
    return CheckConstraint(f"{column} IN ({listed})", name=column)


def _index_some(name: str, *columns: str, where: str, unique: bool = False) -> Index:
    """An index of the rows of which a condition holds."""
    return Index(name, *columns, unique=unique, sqlite_where=text(where), info={"where": where})


def speak_postgresql() -> None:
    """Give PostgreSQL the conditions of the indexes; its part of the library is loaded for that."""
    for table in metadata.tables.values():
        for index in table.indexes:
            if "where" in index.info:
                index.dialect_options["postgresql"]["where"] = text(index.info["where"])


project = Table(
    "project",
    metadata,
    Column("id", ID, primary_key=True),
    Column("name", Text, nullable=False),
    Column("path", Text, nullable=False),
    Column("base_ref", Text),
    Column("workspace", Text, nullable=False),
    Column("allow_dirty", Boolean, nullable=False),
    Column("checks", DOCUMENT, nullable=False),
    Column("max_concurrent", Integer),
    Column("status", Text, nullable=False),
    # False once it vanished from the configuration: it starts nothing new and is never deleted.
    Column("declared", Boolean, nullable=False),
    Column("created_at", Instant, nullable=False),
    Column("updated_at", Instant, nullable=False),
    # `file`: a configuration declares it; `board`: a person made it with a command.
    Column("origin", Text, nullable=False, server_default="file"),
    _one_of("workspace", WorkspaceKind),
    CheckConstraint("status IN ('active', 'paused', 'archived')", name="status"),
)

agent = Table(
    "agent",
    metadata,
    Column("id", ID, primary_key=True),
    Column("name", Text, nullable=False),
    Column("provider", Text, nullable=False),
    Column("model", Text),
    Column("role", Text, nullable=False),
    Column("approval", Text, nullable=False),
    Column("max_concurrent", Integer, nullable=False),
    Column("enabled", Boolean, nullable=False),
    Column("declared", Boolean, nullable=False),
    Column("created_at", Instant, nullable=False),
    Column("updated_at", Instant, nullable=False),
    Column("origin", Text, nullable=False, server_default="file"),
    # Salted; NULL: the agent has none.
    Column("passkey_hash", Text),
    Column("hierarchy", Text, nullable=False, server_default="worker"),
    Column("parent_id", ID),
    Column("workflow", Text),
    # `program` or `person`; nothing is started for a person.
    Column("kind", Text, nullable=False, server_default="program"),
    # `one-shot` or `live`; NULL: as its provider says.
    Column("mode", Text),
    # What it may do and who is asked: `ask`, `allow`, `deny`. NULL: its approval alone says.
    Column("permissions", DOCUMENT),
    _one_of("approval", Approval),
)

assignment = Table(
    "assignment",
    metadata,
    Column("agent_id", ID, ForeignKey("agent.id"), primary_key=True),
    Column("project_id", ID, ForeignKey("project.id"), primary_key=True),
)

task = Table(
    "task",
    metadata,
    Column("id", ID, primary_key=True),
    Column("project_id", ID, ForeignKey("project.id"), nullable=False),
    # NULL: any agent of the project.
    Column("agent_id", ID, ForeignKey("agent.id")),
    Column("parent_id", ID, ForeignKey("task.id")),
    Column("kind", Text, nullable=False),
    Column("title", Text, nullable=False),
    Column("description", Text, nullable=False),
    Column("acceptance", DOCUMENT, nullable=False),
    Column("checks", DOCUMENT, nullable=False),
    Column("priority", Integer, nullable=False),
    Column("status", Text, nullable=False),
    Column("wait_reason", Text),
    Column("status_reason", Text),
    Column("branch", Text),
    Column("attempt", Integer, nullable=False),
    Column("max_attempts", Integer, nullable=False),
    Column("infra_requeues", Integer, nullable=False),
    Column("not_before", Instant),
    Column("handoff", Text),
    Column("progress", Integer, nullable=False),
    Column("result", DOCUMENT, nullable=False),
    # Grows with every claim and take-over; a run whose own number is lower no longer counts.
    Column("fence", BigInteger, nullable=False),
    Column("version", Integer, nullable=False),
    Column("created_at", Instant, nullable=False),
    Column("updated_at", Instant, nullable=False),
    Column("started_at", Instant),
    Column("ended_at", Instant),
    Column("workflow", Text),
    Column("workflow_state", DOCUMENT),
    Column("awaited", DOCUMENT),
    Column("batch_key", Text),
    Column("local_id", Text),
    Column("approval", Text),
    Column("review_by", Text),
    Column("feedback", DOCUMENT),
    Column("reviews_id", ID),
    Column("review_rounds", Integer, nullable=False, server_default="0"),
    # NULL: no audit made it.
    Column("audit_firing_id", ID),
    Column("is_locked", Boolean, nullable=False, server_default=false()),
    # What all its runs may use: `tokens`, `usd`; NULL: what the settings say.
    Column("budget", DOCUMENT),
    # Names of `mcp_servers` and `skills` that it is given; a kind that is absent: all its agent has.
    Column("options", DOCUMENT),
    _one_of("kind", TaskKind),
    _one_of("status", TaskStatus),
    _one_of("wait_reason", WaitReason),
    CheckConstraint("(wait_reason IS NOT NULL) = (status = 'waiting')", name="waits_for_something"),
    _index_some(
        "ix_task_queue",
        "project_id",
        "agent_id",
        where="status = 'queued'",
    ),
    Index("ix_task_parent_id", "parent_id"),
    Index("ix_task_created_at", "created_at", "id"),
    _index_some(
        "ix_task_awaiting",
        "agent_id",
        "project_id",
        where="wait_reason = 'subtasks'",
    ),
    _index_some("ix_task_reviews_id", "reviews_id", where="reviews_id IS NOT NULL"),
    _index_some("ix_task_audit_firing_id", "audit_firing_id", where="audit_firing_id IS NOT NULL"),
)

run = Table(
    "run",
    metadata,
    Column("id", ID, primary_key=True),
    Column("task_id", ID, ForeignKey("task.id")),
    Column("agent_id", ID, ForeignKey("agent.id"), nullable=False),
    Column("project_id", ID, ForeignKey("project.id"), nullable=False),
    Column("provider", Text, nullable=False),
    Column("attempt", Integer, nullable=False),
    Column("purpose", Text, nullable=False),
    Column("slot", Integer, nullable=False),
    Column("phase", Text, nullable=False),
    Column("outcome", Text),
    Column("reason", Text),
    Column("verification", Text),
    Column("fence", BigInteger, nullable=False),
    Column("coordinator_id", ID, nullable=False),
    Column("epoch", BigInteger, nullable=False),
    Column("holder", Text, nullable=False),
    Column("lease_until", Instant, nullable=False),
    # Of the run's token; NULL once the run is over: the token dies with it.
    Column("token_sha256", Text),
    Column("shim", DOCUMENT),
    Column("host_id", Text),
    Column("workspace", Text),
    Column("branch", Text),
    Column("base_commit", Text),
    Column("sealed_commit", Text),
    Column("pushed", Boolean),
    Column("log_path", Text),
    Column("log", DOCUMENT),
    Column("argv_masked", DOCUMENT),
    Column("stage", Text),
    Column("activity", Text),
    Column("provider_session_id", Text),
    Column("usage", DOCUMENT),
    Column("checks", DOCUMENT),
    Column("hello_at", Instant),
    Column("authenticated_at", Instant),
    Column("reported_result", Text),
    Column("reported_summary", Text),
    Column("reported_at", Instant),
    Column("stop_reason", Text),
    Column("stop_requested_at", Instant),
    Column("exit_code", Integer),
    Column("signal", Integer),
    Column("error", Text),
    Column("cpu_seconds", Float),
    Column("peak_rss", BigInteger),
    Column("created_at", Instant, nullable=False),
    Column("started_at", Instant),
    Column("ended_at", Instant),
    Column("evidence", DOCUMENT),
    Column("missing_evidence", DOCUMENT),
    Column("report_refusals", Integer, nullable=False, server_default="0"),
    Column("tool_timeout_seconds", Float),
    Column("resumed_session_id", Text),
    Column("summary", DOCUMENT),
    # What it is about → a sentence.
    Column("warnings", DOCUMENT),
    Column("leftovers", DOCUMENT),
    Column("leftovers_ended", Boolean),
    Column("answers_on_stdin", Boolean, nullable=False, server_default=false()),
    Column("duty", Text, nullable=False, server_default="worker"),
    # What its program says of itself: `used`, `limit` (tokens), `at`; windows of limits; numbers.
    Column("context", DOCUMENT),
    Column("compactions", Integer),
    Column("limits", DOCUMENT),
    Column("counts", DOCUMENT),
    # What its program takes in while it works; NULL: nothing.
    Column("listens", Text),
    # With `provider`: what it works on. No model: the program's own default.
    Column("account", Text, nullable=False, server_default="default"),
    Column("model", Text),
    # What it used so far, and what is set aside for it while it runs; money in US dollars.
    Column("used_tokens", Float, nullable=False, server_default="0"),
    Column("used_usd", Float, nullable=False, server_default="0"),
    Column("reserved_tokens", Float, nullable=False, server_default="0"),
    Column("reserved_usd", Float, nullable=False, server_default="0"),
    _one_of("purpose", Purpose),
    _one_of("phase", RunPhase),
    _one_of("outcome", RunOutcome),
    _one_of("verification", Verification),
    CheckConstraint("(outcome IS NOT NULL) = (phase = 'ended')", name="outcome_at_the_end"),
    CheckConstraint("purpose <> 'task' OR task_id IS NOT NULL", name="task_of_task_runs"),
    _index_some(
        "uq_run_live_task",
        "task_id",
        unique=True,
        where="phase <> 'ended'",
    ),
    _index_some(
        "uq_run_live_slot",
        "agent_id",
        "project_id",
        "purpose",
        "slot",
        unique=True,
        where="phase <> 'ended'",
    ),
    _index_some(
        "uq_run_token_sha256",
        "token_sha256",
        unique=True,
        where="token_sha256 IS NOT NULL",
    ),
    Index("ix_run_task_id", "task_id"),
    Index("ix_run_created_at", "created_at", "id"),
    Index("ix_run_ended_at", "ended_at"),
)

dependency = Table(
    "dependency",
    metadata,
    Column("task_id", ID, ForeignKey("task.id"), primary_key=True),
    Column("depends_on", ID, ForeignKey("task.id"), primary_key=True),
    Index("ix_dependency_depends_on", "depends_on"),
)

question = Table(
    "question",
    metadata,
    Column("id", ID, primary_key=True),
    Column("task_id", ID, ForeignKey("task.id"), nullable=False),
    Column("run_id", ID, ForeignKey("run.id"), nullable=False),
    Column("text", Text, nullable=False),
    Column("options", DOCUMENT, nullable=False),
    Column("asked_by", Text, nullable=False),
    Column("asked_at", Instant, nullable=False),
    Column("hold_until", Instant, nullable=False),
    Column("expires_at", Instant, nullable=False),
    Column("pending_at", Instant),
    Column("answer", Text),
    Column("answered_by", Text),
    Column("answered_at", Instant),
    Column("closed_at", Instant),
    Column("closed_reason", Text),
    # `question`, or `permission`: whether its program may do something.
    Column("kind", Text, nullable=False, server_default="question"),
    CheckConstraint("(answer IS NOT NULL) = (answered_at IS NOT NULL)", name="answer_has_time"),
    # One question of a task at a time: its task waits for exactly one answer.
    _index_some(
        "uq_question_open",
        "task_id",
        unique=True,
        where="answered_at IS NULL AND closed_at IS NULL",
    ),
    Index("ix_question_task_id", "task_id", "asked_at"),
)

coordinator = Table(
    "coordinator",
    metadata,
    Column("id", ID, primary_key=True),
    Column("host_id", Text),
    Column("epoch", BigInteger, nullable=False),
    Column("first_seen", Instant, nullable=False),
    Column("last_seen", Instant, nullable=False),
)

# What `authenticate` gives to programs that are known by nothing but what they show.
session = Table(
    "session",
    metadata,
    Column("token_sha256", Text, primary_key=True),
    Column("run_id", ID, ForeignKey("run.id"), nullable=False),
    Column("created_at", Instant, nullable=False),
    # Logged out. It ends with its run in any case.
    Column("ended_at", Instant),
    Index("ix_session_run_id", "run_id"),
)

# What an agent is told beside the answers to its calls.
notification = Table(
    "notification",
    metadata,
    Column("id", ID, primary_key=True),
    Column("agent_id", ID, ForeignKey("agent.id"), nullable=False),
    Column("project_id", ID, ForeignKey("project.id"), nullable=False),
    # NULL: whichever session of the pair comes first.
    Column("run_id", ID, ForeignKey("run.id")),
    Column("purpose", Text),
    Column("task_id", ID, ForeignKey("task.id")),
    Column("kind", Text, nullable=False),
    Column("action", Text, nullable=False),
    Column("message", Text, nullable=False),
    Column("instruction", Text, nullable=False),
    Column("created_at", Instant, nullable=False),
    Column("read_at", Instant),
    _one_of("kind", NoticeKind),
    _one_of("purpose", Purpose),
    _index_some(
        "ix_notification_unread",
        "agent_id",
        "project_id",
        where="read_at IS NULL",
    ),
)

# What people and an agent of a project say to each other.
message = Table(
    "message",
    metadata,
    Column("id", ID, primary_key=True),
    Column("agent_id", ID, ForeignKey("agent.id"), nullable=False),
    Column("project_id", ID, ForeignKey("project.id"), nullable=False),
    Column("author", Text, nullable=False),
    Column("body", Text, nullable=False),
    Column("task_id", ID, ForeignKey("task.id")),
    # Whose agent wrote it; NULL: a person or the system did.
    Column("run_id", ID, ForeignKey("run.id")),
    # The session that read it last, and how many did.
    Column("delivered_run_id", ID, ForeignKey("run.id")),
    Column("delivered_at", Instant),
    Column("deliveries", Integer, nullable=False),
    Column("answered_at", Instant),
    Column("created_at", Instant, nullable=False),
    _one_of("author", Author),
    Index("ix_message_pair", "agent_id", "project_id", "created_at", "id"),
    _index_some(
        "ix_message_unanswered",
        "agent_id",
        "project_id",
        where="answered_at IS NULL AND author = 'person'",
    ),
)

# What skills are made of, by their content: one archive for all that hold the same.
skill_archive = Table(
    "skill_archive",
    metadata,
    Column("sha256", Text, primary_key=True),
    Column("content", LargeBinary, nullable=False),
)

skill = Table(
    "skill",
    metadata,
    Column("id", ID, primary_key=True),
    Column("directory_name", ID, nullable=False),
    Column("name", Text, nullable=False),
    Column("description", Text, nullable=False),
    Column("sha256", Text, ForeignKey("skill_archive.sha256"), nullable=False),
    Column("size", Integer, nullable=False),
    Column("unpacked_size", Integer, nullable=False),
    Column("files", Integer, nullable=False),
    Column("added_by", Text, nullable=False),
    Column("created_at", Instant, nullable=False),
    Column("updated_at", Instant, nullable=False),
    Index("uq_skill_directory_name", "directory_name", unique=True),
    Index("ix_skill_sha256", "sha256"),
)

agent_skill = Table(
    "agent_skill",
    metadata,
    Column("agent_id", ID, ForeignKey("agent.id"), primary_key=True),
    Column("skill_id", ID, ForeignKey("skill.id"), primary_key=True),
    # `file`: the configuration says so; `board`: a person did with a command.
    Column("origin", Text, nullable=False),
    Index("ix_agent_skill_skill_id", "skill_id"),
)

# What one agent leaves another for a task.
handoff = Table(
    "handoff",
    metadata,
    Column("id", ID, primary_key=True),
    Column("project_id", ID, ForeignKey("project.id"), nullable=False),
    Column("task_id", ID, ForeignKey("task.id"), nullable=False),
    Column("from_agent_id", ID, ForeignKey("agent.id"), nullable=False),
    Column("from_run_id", ID, ForeignKey("run.id"), nullable=False),
    # NULL: whoever works on the task.
    Column("to_agent_id", ID, ForeignKey("agent.id")),
    Column("summary", Text, nullable=False),
    Column("context", Text),
    Column("recommendations", Text),
    Column("created_at", Instant, nullable=False),
    Column("accepted_at", Instant),
    Column("accepted_by", ID, ForeignKey("agent.id")),
    Column("accepted_run_id", ID, ForeignKey("run.id")),
    CheckConstraint("(accepted_at IS NULL) = (accepted_by IS NULL)", name="accepted_by_somebody"),
    Index("ix_handoff_task_id", "task_id", "created_at", "id"),
    _index_some(
        "ix_handoff_pending",
        "project_id",
        "to_agent_id",
        where="accepted_at IS NULL",
    ),
)

report = Table(
    "report",
    metadata,
    Column("run_id", ID, ForeignKey("run.id"), primary_key=True),
    Column("seq", Integer, primary_key=True),
    Column("received_at", Instant, nullable=False),
    Column("answer", DOCUMENT, nullable=False),
)

call_effect = Table(
    "call_effect",
    metadata,
    Column("run_id", ID, ForeignKey("run.id"), primary_key=True),
    Column("nonce", Text, primary_key=True),
    Column("request_id", Text, primary_key=True),
    Column("params_digest", Text, nullable=False),
    Column("effect_kind", Text, nullable=False),
    Column("effect_id", Text),
    Column("answer", DOCUMENT),
    Column("created_at", Instant, nullable=False),
)

event = Table(
    "event",
    metadata,
    # Given by us, without gaps: a database's own counter skips what was rolled back.
    Column("seq", SEQUENCE, primary_key=True, autoincrement=False),
    Column("ts", Instant, nullable=False),
    Column("actor", Text, nullable=False),
    Column("action", Text, nullable=False),
    Column("project_id", ID),
    Column("task_id", ID),
    Column("run_id", ID),
    Column("agent_id", ID),
    Column("data", DOCUMENT, nullable=False),
    Index("ix_event_task_id", "task_id", "seq"),
)
