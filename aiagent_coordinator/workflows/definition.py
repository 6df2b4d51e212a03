"""What a workflow is: stages, and in each the rules that say what an agent is told next. Values only."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Final

from aiagent_coordinator.tasks import Duty


class Action(StrEnum):
    """What an agent can be told to do: the words that clients know."""

    GET_TASK = "get_task"
    WORK = "work"
    CREATE_SUBTASKS = "create_subtasks"
    START_SUBTASK = "start_subtask"
    EXECUTE_SUBTASK = "execute_subtask"
    REVIEW_BLOCKS = "review_and_resolve_blocks"
    DEADLOCK = "dependency_deadlock"
    ASSIGN = "assign"
    BLOCK_SUBTASK = "block_subtask"
    AWARENESS = "situational_awareness"
    COMPLETION_CHECK = "completion_check"
    DISPATCH = "dispatch_task"
    ADJUST = "adjust"
    WAIT = "wait"
    REVIEW = "review"
    REPORT_COMPLETION = "report_completion"
    EXIT = "exit"


@dataclass(frozen=True)
class Subtask:
    """A part of the agent's task, as far as the next word depends on it.

    `status` is one of `ready`, `waiting` (for others), `running`, `blocked`, `unassigned`, `over`.
    """

    id: str
    title: str
    status: str


@dataclass(frozen=True)
class State:
    """What is known of an agent when it asks. `stage` may be a word of another program."""

    stage: str | None = None
    is_reported: bool = False
    stop_reason: str | None = None
    #: A question had no answer in time: the task goes on in another run.
    is_suspended: bool = False
    #: Acceptance criteria that the last report left out.
    missing: tuple[str, ...] = ()
    #: In the order in which they were made, what matters more first.
    subtasks: tuple[Subtask, ...] = ()
    #: It waits for its sub-tasks, and goes on in another run.
    is_waiting: bool = False
    #: Somebody works for it who can be given sub-tasks.
    has_workers: bool = False
    #: The result that it is to judge has its verdict.
    has_verdict: bool = False
    #: How often each stage that may be entered only so often was entered, in all runs of the attempt.
    entered: Mapping[str, int] = field(default_factory=dict[str, int])

    def at(self, stage: str) -> State:
        """The same at another stage."""
        return replace(self, stage=stage)

    def any(self, *statuses: str) -> bool:
        """Whether some sub-task is so."""
        return any(one.status in statuses for one in self.subtasks)


@dataclass(frozen=True)
class Step:
    """One answer: the action, how to do it, and the stage to remember from then on."""

    action: Action
    instruction: str
    stage: str | None
    #: The sub-task that is meant.
    subtask: Subtask | None = None
    #: What clients are told as `state`; the stage without.
    state: str | None = None
    #: Words that the agent may choose from.
    choices: tuple[str, ...] = ()
    #: A stage that this answer enters and that may be entered only so often.
    enters: str | None = None


#: What a rule can ask, by the word it asks with.
FACTS: Final[Mapping[str, Callable[[State], bool]]] = {
    "has_subtasks": lambda state: bool(state.subtasks),
    "open_subtask": lambda state: any(one.status != "over" for one in state.subtasks),
    "running_subtask": lambda state: state.any("running"),
    "ready_subtask": lambda state: state.any("ready"),
    "blocked_subtask": lambda state: state.any("blocked"),
    "waiting_subtask": lambda state: state.any("waiting"),
    "unassigned_subtask": lambda state: state.any("unassigned"),
    "can_wait": lambda state: state.any("running", "ready"),
    "has_verdict": lambda state: state.has_verdict,
    "has_workers": lambda state: state.has_workers,
}
#: Of which sub-task a rule can speak: the first that is so.
ABOUT: Final = ("running", "ready", "blocked", "waiting", "unassigned")
#: What a text may hold in braces, where the rule names a sub-task.
PLACEHOLDER: Final = re.compile(r"\{(subtask_id|subtask_title)\}")


@dataclass(frozen=True)
class Rule:
    """One answer and when it is given. The first rule of a stage whose conditions all hold counts."""

    do: Action
    say: str
    #: Each a fact and whether it must hold.
    when: tuple[tuple[str, bool], ...] = ()
    #: The stage from then on; None: the same.
    next: str | None = None
    about: str | None = None
    state: str | None = None
    #: Tools that the text tells the agent to call.
    tools: tuple[str, ...] = ()

    def holds(self, state: State) -> bool:
        """Whether its conditions hold."""
        return all(FACTS[fact](state) is wanted for fact, wanted in self.when)


@dataclass(frozen=True)
class Stage:
    """Where an agent can be."""

    name: str
    rules: tuple[Rule, ...]
    #: Where reading the task leads; None: nowhere.
    after_reading: str | None = None
    #: What the agent may choose → where that leads.
    choices: Mapping[str, str] = field(default_factory=dict[str, str])
    #: How often an attempt at a task may come here; None: any number.
    times: int | None = None

    def leads_to(self) -> set[str]:
        """The stages that may follow at once."""
        told = {rule.next for rule in self.rules} | {self.after_reading, *self.choices.values()}
        return {name for name in told if name is not None} - {self.name}


@dataclass(frozen=True)
class Workflow:
    """What agents of one duty are told, step by step."""

    name: str
    role: Duty
    title: str
    #: By name, the first one first.
    stages: Mapping[str, Stage]
    #: Where it was read.
    file: str

    @property
    def first(self) -> Stage:
        """Where everybody begins, and who is somewhere that is not known any more."""
        return next(iter(self.stages.values()))

    def at(self, stage: str | None) -> Stage:
        """The stage of a name, else the first."""
        return self.stages.get(stage or "", self.first)
