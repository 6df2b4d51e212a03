"""Events: the one list of what can happen. The contract for logs, commands and later screens.

A store event is written in the transaction that makes it true. A log event is a line of the
coordinator's own log. `docs/reference/events.md` is generated from this module.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

#: Store events: name → what happened.
STORE_EVENTS: dict[str, str] = {
    "project.created": "A person made a project.",
    "project.status": "A project was paused, resumed or archived; data: from, to.",
    "agent.created": "A person made an agent.",
    "project.declared": "A project appeared in the configuration.",
    "project.changed": "A declared project changed.",
    "agent.declared": "An agent appeared in the configuration.",
    "agent.changed": "A declared agent changed.",
    "task.created": "A task was put on the board.",
    "task.status": "A task changed status; data: transition, from, to, reason.",
    "task.review": "An agent was asked to judge a result; data: review_id, by.",
    "task.approved": "A task may begin, or its result counts; data: reason.",
    "task.rejected": "A task may not begin; data: reason.",
    "task.changes": "A result was sent back; data: reason.",
    "task.described": "What a task says was changed.",
    "task.dependencies": "What a task waits for changed; data: depends_on, reason.",
    "task.progress": "An agent reported progress; data: progress (0-100), message.",
    "task.locked": "An audit holds a task; data: firing_id.",
    "task.unlocked": "A task is held no more by an audit; data: audit, held.",
    "agent.locked": "An audit holds an agent: it gets nothing new; data: firing_id.",
    "agent.unlocked": "An agent is held no more by an audit; data: audit, held.",
    "audit.status": "An audit was activated, suspended or put away; data: audit, from, to.",
    "audit.fired": "A change of a task met a rule; data: audit, rule, tasks (ids), locked.",
    "question.asked": "An agent asked a person; data: question_id.",
    "question.pending": "No answer came in time: the agent is to commit and exit; data: question_id.",
    "question.answered": "A question was answered; data: question_id.",
    "question.closed": "No answer is wanted any more; data: question_id, reason.",
    "run.claimed": "A coordinator took a task; data: attempt, fence.",
    "run.started": "The shim is up and the CLI may run.",
    "run.hello": "The run's bridge connected.",
    "run.authenticated": "The agent used one of its tools for the first time.",
    "run.report_refused": "A report lacked evidence; the agent was asked for it; data: missing.",
    "run.reported": "The agent said how its task went; data: result.",
    "run.exited": "The CLI and everything it left are gone; data: exit_code, signal, reason.",
    "run.leftovers": "Processes outlived the CLI; data: leftovers (their commands), ended.",
    "run.warning": "A run is over a limit or nears it; data: kind, text.",
    "run.compacted": "A run's program shortened what its model has before it; data: number, text.",
    "run.ended": "The run's result is in; data: outcome, reason, verification, seconds.",
    "run.stop_requested": "The run is to be stopped; data: reason.",
    "run.superseded": "A report came with an old fence and changed nothing.",
    "run.refused": "A call was refused; data: tool, code.",
    "session.ended": "The agent logged out or its run ended.",
    "notification.sent": "An agent is to be told something; data: notification_id, kind, about.",
    "notification.read": "An agent read what it was told; data: count.",
    "message.sent": "Somebody wrote in the chat of an agent; data: message_id, author.",
    "message.read": "A session of the agent read messages; data: count.",
    "conversation.requested": "An agent wants to talk with another; data: conversation_id, initiator, participant.",
    "conversation.began": "The other agent took it up; data: conversation_id, initiator, participant.",
    "conversation.said": "Something was said there; data: conversation_id, initiator, participant, number.",
    "conversation.read": "A session read what was said; data: count.",
    "conversation.ending": "It is over, and not both sides know; data: conversation_id, initiator, participant, by, reason.",
    "conversation.ended": "It is over, and everybody knows; data: conversation_id, initiator, participant, state, by, reason.",
    "delegation.made": "A session at work asked its agent's chat to talk with another; data: delegation_id, target.",
    "delegation.taken": "A session for the chat took that up; data: delegation_id, tries.",
    "delegation.completed": "It did what was asked; data: delegation_id.",
    "delegation.returned": "That session ended before; another will take it up; data: delegation_id.",
    "delegation.failed": "Nobody will do it any more; data: delegation_id, reason.",
    "skill.added": "A skill was kept; data: skill_id, directory_name, sha256.",
    "skill.changed": "A skill has another content; data: skill_id, directory_name, sha256.",
    "skill.removed": "A skill was removed; data: skill_id, directory_name.",
    "skill.assigned": "An agent gets a skill from its next run on; data: skill_id, directory_name.",
    "skill.unassigned": "An agent gets a skill no more; data: skill_id, directory_name.",
    "handoff.made": "An agent left another something for a task; data: handoff_id, to.",
    "handoff.taken": "An agent took what another left; data: handoff_id, from.",
    "tell.sent": "A person told a task's agent something; data: tell_id, interrupts.",
    "tell.passed": "It is on its way to a run; data: tell_id, way.",
    "tell.delivered": "An agent had it; data: tell_id, way.",
    "quota.declared": "What the configuration says of accounts, budgets or prices changed.",
    "quota.closed": "A limit was reached, or somebody must log in: nothing starts there; data: provider, account, model, window, cause, until, confidence.",
    "quota.opened": "Something may start there again; data: provider, account, model, window, cause.",
    "coordinator.seen": "A coordinator began a new life; data: epoch, host.",
}

#: Log events of the coordinator and the daemon: name → what happened.
LOG_EVENTS: dict[str, str] = {
    "daemon.root": "The program runs as root; its agents do too.",
    "daemon.ready": "The socket answers and the store is open.",
    "daemon.degraded": "Something that work needs is missing, and nothing starts; data: reason.",
    "daemon.recovered": "What was missing is there again.",
    "daemon.stopping": "No new run starts; data: mode, running.",
    "daemon.stopped": "Everything is closed.",
    "config.notice": "Something in a file of another program means little here; data: notice.",
    "config.changed": "The configuration file changed, and what counts live does; data: live, next start, never.",
    "config.same": "The configuration was read again, because of SIGHUP, and says the same.",
    "config.refused": "The configuration file cannot be used any more; the last good one stays; data: reason.",
    "sandbox.missing": "A sandbox that the settings name cannot be made here; data: sandbox, reason.",
    "server.no_door": "The socket's second name could not be made; agents in bwrap lose a server that restarts.",
    "server.keys_missing": "The keys of the provider of tokens cannot be read; those known stay in force.",
    "server.log_taken": "A coordinator of another make sent what a run printed.",
    "server.request_failed": "A request failed unexpectedly; the caller got an error.",
    "server.connection_refused": "A connection was closed: another user, a wrong hello, too many, or half a line.",
    "loop.server_down": "The server does not answer; the loop keeps trying.",
    "loop.server_up": "The server answers again.",
    "loop.failed": "One pass or one pair failed unexpectedly; the loop goes on.",
    "loop.waiting": "Something that could run waits; data: reason.",
    "loop.circuit_opened": "Runs failed again and again at once: nothing is started there for a while; data: scope, name, reason.",
    "loop.unschedulable": "An agent cannot be started here: provider, model or approval; data: reason.",
    "loop.logged_in": "A program that said that nobody is logged in says that somebody is; data: provider, account.",
    "run.intent": "A run is about to be claimed.",
    "run.start": "The CLI was started; data: provider, branch.",
    "run.exit": "The CLI is gone; data: exit_code, signal.",
    "run.stage": "A stage of the run ended; data: stage, seconds.",
    "run.cleaned": "What the checks left in the worktree was taken away; data: files.",
    "run.skill_left_out": "A skill could not be given to a run; data: skill, error.",
    "run.end": "The run is over; data: outcome, reason, commit.",
    "run.adopted": "A run of an earlier life was found alive and taken on.",
    "run.restored": "The journal was behind; the run's folder said how far it is; data: stage.",
    "run.foreign": "A run directory of another version's making was found and left as it is.",
    "journal.set_aside": "The journal was damaged: it lies in `quarantine`, and was made again; data: path, kept.",
    "run.lost": "A run ended without a record.",
    "run.stop": "The run's tree is being stopped; data: reason.",
    "run.warning": "A run is over a limit or nears it; data: kind.",
    "run.leftovers": "Processes outlived a CLI or its run; data: leftovers (their commands), ended.",
    "run.failed": "The coordinator failed at this run; data: stage.",
    "gc.done": "Folders of ended runs were removed; data: count, bytes.",
    "gc.failed": "A folder could not be removed; it is tried again.",
    "report.retry": "A report was not taken and is tried again.",
    "report.refused": "A report was refused for good; data: code.",
}


@dataclass(frozen=True)
class Event:
    """One thing that happened: append-only, numbered by the store."""

    seq: int
    ts: datetime
    actor: str
    action: str
    project_id: str | None = None
    task_id: str | None = None
    run_id: str | None = None
    agent_id: str | None = None
    data: dict[str, Any] = field(default_factory=dict[str, Any])
